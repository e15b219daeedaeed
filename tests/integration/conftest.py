"""The small real target, built once for all tests that need an image; a store, a registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from images.content.debian import rootfs
from images.inputs.fetch import deb_files, download_cache, mirror
from images.inputs.lock import base_lock
from images.inputs.resolve import apt
from images.oci.store import store
from images.oci.store.store import Store
from tests.integration.registries import Proxy, proxy, registry

ROOT = Path(__file__).resolve().parent.parent.parent
MATRIX = Path(__file__).parent / "small" / "matrix.yaml"
TARGET = "torch280-sglang052"
CACHE = Path(os.environ.get("ROLL_IMAGES_CACHE") or Path.home() / ".cache" / "roll-images")


_BOOKWORM = bytes.fromhex("f8d2585b8783d481")
"""The id of a key that signs bookworm's index; the key's own signature has it."""


def need_bookworms_keys() -> None:
    """Skip where apt could not check what it resolves."""
    if apt.KEYRING.is_file() and _BOOKWORM not in apt.KEYRING.read_bytes():
        pytest.skip(f"{apt.KEYRING} is older than bookworm, as Ubuntu 22.04's")


@pytest.fixture
def layout(tmp_path: Path) -> Store:
    """An empty store."""
    return store.open_store(tmp_path / "store")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a real registry of the test's own."""
    with registry(tmp_path) as address:
        yield address


@pytest.fixture
def faulty(server: str) -> Iterator[Proxy]:
    """A proxy before it, with which things go wrong."""
    with proxy(server) as found:
        yield found


def other_cache(place: Path) -> Path:
    """A download cache of links to the real one's files; a test may damage its own links."""
    cache = place / "cache"
    shutil.copytree(CACHE, cache, copy_function=_link, symlinks=True)
    return cache


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:  # /tmp may be a file system of its own
        Path(destination).symlink_to(source)


@dataclass(frozen=True)
class Cli:
    """`build.py` as a user runs it, on one store and one download cache."""

    store: Path
    cache: Path = CACHE
    matrix: Path = MATRIX

    def command(self, *arguments: str) -> list[str]:
        """The command line; `build` and `fetch` get the cache as well."""
        name, *rest = arguments
        options = ["--store", str(self.store), "--matrix", str(self.matrix)]
        options += ["--cache", str(self.cache)] if name in ("build", "fetch") else []
        return [sys.executable, str(ROOT / "build.py"), name, *options, *rest]

    def run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        umask: int = -1,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; the caller looks at the exit code."""
        return subprocess.run(
            [*prefix, *self.command(*arguments)],
            env={**os.environ, **(env or {})},
            umask=umask,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )

    def build(self, *options: str, **settings: Any) -> dict[str, Any]:
        """Build the small target; return the JSON document."""
        done = self.run("build", "--target", TARGET, "--json", *options, **settings)
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def verified(self) -> bool:
        """Whether `verify` finds no fault."""
        return self.run("verify").returncode == 0


@dataclass(frozen=True)
class SmallImage:
    """The small target as it was built first."""

    cli: Cli
    document: dict[str, Any]

    def copy_to(self, place: Path, *, keep: Sequence[str]) -> Cli:
        """A store that knows the layers with these titles only, and no image yet."""
        store = place / "store"
        for part in ("blobs/sha256", ".roll/layers", ".roll/locks", ".roll/tmp"):
            (store / part).mkdir(parents=True)
        shutil.copy(self.cli.store / "oci-layout", store)
        (store / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
        kept = {layer["digest"] for layer in self.document["layers"] if layer["title"] in keep}
        for key in (self.cli.store / ".roll" / "layers").iterdir():
            digest = json.loads(key.read_text())["digest"]
            if digest in kept:
                shutil.copy(key, store / ".roll" / "layers")
                blob = self.cli.store / "blobs" / "sha256" / digest.removeprefix("sha256:")
                shutil.copy(blob, store / "blobs" / "sha256")
        return Cli(store)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallImage:
    """The small target in a store of its own; no test may change that store."""
    cli = Cli(tmp_path_factory.mktemp("small") / "store")
    return SmallImage(cli, cli.build())


@pytest.fixture(scope="session")
def base_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar that mmdebstrap makes of the locked base, made once for all tests that look at it."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("needs mmdebstrap")
    debs = base_lock.read()
    if download_cache.missing([package.artifact for package in debs], CACHE):
        deb_files.download(debs, mirror.find(), CACHE)
    return rootfs.build(debs, CACHE, tmp_path_factory.mktemp("base"))
