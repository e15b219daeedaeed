"""Hostile OCI layouts: every command reports them, none is misled, and no traceback is shown.

Hostile tar headers in layers: tests/unit/unbundle/destinations/test_unpack.py and
tests/unit/unbundle/destinations/test_hostile_layers.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.oci.image import MAX_LAYERS
from tests.damage import flip
from tests.faults.fuzz import altered, damaged, fuzz, run
from tests.faults.tiny import TARGET, Tiny

CODES = {0, 2, 6, 7}


class Layout:
    """A copy of the tiny image's layout, to be spoilt."""

    def __init__(self, tiny: Tiny, place: Path) -> None:
        self.tiny, self.place, self.path = tiny, place, place / "store"
        self.reset()

    def reset(self) -> None:
        """Restore the good layout."""
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self.tiny.store, self.path, copy_function=os.link)
        index = json.loads((self.path / "index.json").read_text())
        self._write(self.path / "index.json", json.dumps(index).encode())

    def _write(self, path: Path, content: bytes) -> None:
        path.unlink(missing_ok=True)
        path.write_bytes(content)

    @property
    def index(self) -> Any:
        return json.loads((self.path / "index.json").read_text())

    @property
    def manifest(self) -> Any:
        return json.loads(self.blob(self._descriptor["digest"]).read_text())

    @property
    def config(self) -> Any:
        return json.loads(self.blob(self.manifest["config"]["digest"]).read_text())

    @property
    def _descriptor(self) -> Any:
        (found,) = (item for item in self.index["manifests"] if TARGET in str(item))
        return found

    def blob(self, digest: str) -> Path:
        """Return the path of a blob."""
        return self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def put(self, content: bytes) -> dict[str, Any]:
        """Add a blob under its true digest; return digest and size."""
        digest = hashlib.sha256(content).hexdigest()
        self._write(self.blob(f"sha256:{digest}"), content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    def put_index(self, content: bytes) -> None:
        """The index, as it is."""
        self._write(self.path / "index.json", content)

    def put_manifest(self, content: bytes) -> None:
        """A manifest under its true digest, and an index that names it."""
        index = self.index
        for item in index["manifests"]:
            if TARGET in str(item):
                item.update(self.put(content))
        self.put_index(json.dumps(index).encode())

    def put_config(self, content: bytes) -> None:
        """A config under its true digest, and a manifest that names it."""
        manifest = self.manifest
        manifest["config"].update(self.put(content))
        self.put_manifest(json.dumps(manifest).encode())

    def commands(self) -> dict[str, tuple[int, str]]:
        """Return the messages of each command that reads a store."""
        place = ["--store", self.path]
        named = [*place, "--target", TARGET]
        out = self.place / "out"
        shutil.rmtree(out, ignore_errors=True)
        matrix = ["--matrix", self.tiny.matrix]
        push = ["--plain-http", "--to", "127.0.0.1:1/x"]
        found = {
            "list": run("list", *place, *matrix),
            "inspect": run("inspect", *named),
            "inspect --json": run("inspect", *place, "--json"),
            "verify": run("verify", *place),
            "bundle": run("bundle", *named, "--out", out),
        }
        if found["inspect"][0]:  # it stops at the image, and asks no registry
            found["push"] = run("push", *named, *matrix, *push)
        found["gc"] = run("gc", *place)
        found["gc --damaged"] = run("gc", *place, "--damaged")
        for command, (code, said) in found.items():
            assert code in CODES, (command, said)
            assert code == 0 or "error: " in said, (command, said)
        return found


@pytest.fixture(scope="module")
def built(target: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    tiny = target.fresh(tmp_path_factory.mktemp("good"), warm=True)
    tiny.build()
    return tiny


@pytest.fixture
def layout(built: Tiny, tmp_path: Path) -> Layout:
    return Layout(built, tmp_path)


def test_honest_layout(layout: Layout) -> None:
    assert {code for code, _ in layout.commands().values()} == {0}


Spoil = Callable[[Layout], object]


def layers_changed(change: Callable[[list[Any]], list[Any]]) -> Spoil:
    def spoil(layout: Layout) -> None:
        manifest = layout.manifest
        manifest["layers"] = change(manifest["layers"])
        layout.put_manifest(json.dumps(manifest).encode())

    return spoil


def first_layer(**fields: Any) -> Spoil:
    return layers_changed(lambda layers: [{**layers[0], **fields}, *layers[1:]])


LIES: dict[str, Spoil] = {
    "layer missing": lambda layout: layout.blob(layout.manifest["layers"][-1]["digest"]).unlink(),
    "layer flipped": lambda layout: flip(layout.blob(layout.manifest["layers"][-1]["digest"])),
    "manifest missing": lambda layout: layout.blob(layout._descriptor["digest"]).unlink(),
    "manifest flipped": lambda layout: flip(layout.blob(layout._descriptor["digest"])),
    "config missing": lambda layout: layout.blob(layout.manifest["config"]["digest"]).unlink(),
    "config flipped": lambda layout: flip(layout.blob(layout.manifest["config"]["digest"])),
    "size too small": first_layer(size=1),
    "size negative": first_layer(size=-1),
    "size beyond 64 bits": first_layer(size=1 << 70),
    "digest is a path": first_layer(digest="sha256:../../../../etc/passwd"),
    "digest of another kind": first_layer(digest="sha512:" + "0" * 128),
    "too many layers": layers_changed(lambda layers: layers * MAX_LAYERS),
    "a layer more than the config": layers_changed(lambda layers: [*layers, layers[0]]),
    "index too deep": lambda layout: layout.put_index(b"[" * 100_000),
    "manifest too deep": lambda layout: layout.put_manifest(b'{"layers":' + b"[" * 100_000),
    "config too deep": lambda layout: layout.put_config(b'{"config":' + b"[" * 100_000),
    "number too long": lambda layout: layout.put_manifest(b'{"layers":' + b"9" * 10_000 + b"}"),
    "no text": lambda layout: layout.put_config(b"\xff\xfe{}"),
}
SEEN_BY_INSPECT = {name for name in LIES if not name.startswith(("layer ", "size too"))}


@pytest.mark.parametrize("name", LIES)
def test_hostile_layout(layout: Layout, name: str) -> None:
    LIES[name](layout)
    found = layout.commands()
    failed = {command for command, (code, _) in found.items() if code}
    assert failed & {"verify", "inspect", "bundle"}, found
    if name in SEEN_BY_INSPECT:
        assert "inspect" in failed


@pytest.mark.parametrize("key", ["mediaType", "artifactType"])
def test_type_that_is_no_text(layout: Layout, key: str) -> None:
    """A list is looked up in no table of types."""
    index = layout.index
    index["manifests"][0][key] = []
    layout.put_index(json.dumps(index).encode())
    assert {code for code, _ in layout.commands().values()} != {0}


DOCUMENTS = ("index", "manifest", "config")


@pytest.mark.parametrize("name", DOCUMENTS)
@fuzz(20, 300)
@given(data=st.data())
def test_any_value_in_any_place(layout: Layout, name: str, data: st.DataObject) -> None:
    layout.reset()
    document = getattr(layout, name)
    altered(data, document)
    getattr(layout, f"put_{name}")(json.dumps(document).encode())
    layout.commands()


@pytest.mark.parametrize("name", DOCUMENTS)
@fuzz(10, 300)
@given(data=st.data())
def test_any_bytes(layout: Layout, name: str, data: st.DataObject) -> None:
    layout.reset()
    content = damaged(data, json.dumps(getattr(layout, name)).encode())
    getattr(layout, f"put_{name}")(content)
    layout.commands()
