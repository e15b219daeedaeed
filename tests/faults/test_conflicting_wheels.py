"""Wheels with one path in common, by the command line: found before an image is made of them."""

from __future__ import annotations

import io
import random
import re
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from images.inputs.fetch import download_cache
from images.oci.store import store as stores
from tests.faults.tiny import TARGET, Done, Tiny
from tests.unit.wheels import write_wheel

SITE = "opt/venv/lib/python3.11/site-packages"
ONE_SHELF = ("s0", "s8")  # by the hash of their names
BIG = random.Random(1).randbytes(1_200_000)  # a layer of its own


def with_wheels(
    target: Tiny, place: Path, files: Mapping[str, Mapping[str, bytes]], rules: str = ""
) -> tuple[Tiny, Done]:
    """Return the target with more wheels, and the result of `lock`."""
    (place / "wheels").mkdir()
    work = place / "work"
    work.mkdir()
    shutil.copytree(target.place / "seed", work / "seed")
    pins = ""
    for name, content in files.items():
        target.index.add(write_wheel(place / "wheels", content, name=name))
        pins += f', "{name}==1.0"'
    text = target.matrix.read_text()
    text = re.sub(r"(requirements: \[.*?)\]", lambda found: f"{found[1]}{pins}]", text, count=1)
    text = text.replace("  env:\n", f"{rules}  env:\n", 1)
    (work / "matrix.yaml").write_text(text)
    tiny = replace(target, place=work, store=place / "store", cache=place / "cache")
    tiny.fill_store()
    tiny.fill_cache(warm=False)
    return tiny, tiny.run("lock")


def rule(path: str, winner: str, over: str) -> str:
    return (
        f"  conflicts:\n    - path: {path}\n      winner: {winner}\n      over: {over}\n"
        "      why: tried\n"
    )


def files_in(tiny: Tiny) -> dict[str, bytes]:
    """The files of the image as an engine would see them."""
    store = stores.open_store(tiny.store, create=False)
    found: dict[str, bytes] = {}
    for item in store.load(TARGET).layers:
        raw = zstandard.ZstdDecompressor().stream_reader(
            io.BytesIO(store.blobs.path(item.blob.digest).read_bytes()), read_across_frames=True
        )
        with tarfile.open(fileobj=io.BytesIO(raw.read())) as archive:
            for member in archive:
                if member.isfile() and (stream := archive.extractfile(member)):
                    found[member.name] = stream.read()
    return found


def names(*every: str) -> dict[str, dict[str, bytes]]:
    """Wheels in layers of their own that all contain `shared/data`."""
    return {
        name: {"shared/data": name.encode(), f"{name}/big": BIG + name.encode()} for name in every
    }


def refused(tiny: Tiny, *said: str) -> None:
    done = tiny.run("build", "--json")
    assert done.code == 6, done.said
    for text in said:
        assert text in done.said
    assert TARGET not in stores.open_store(tiny.store).images()


def test_a_path_in_two_layers_is_refused_by_both_names(target: Tiny, tmp_path: Path) -> None:
    tiny, _ = with_wheels(target, tmp_path, names("xa", "xb"))
    refused(tiny, f"/{SITE}/shared/data", "xa and xb")
    # Now that the wheels are here, `lock` finds it as well, and `build` before anything is made.
    again = tiny.run("lock", "--check", "--cache", str(tiny.cache))
    assert again.code == 6
    assert "xa and xb" in again.said
    refused(tiny, f"/{SITE}/shared/data")


def test_a_path_in_one_bucket_is_refused_by_both_names(target: Tiny, tmp_path: Path) -> None:
    files = {name: {"shared/data": name.encode()} for name in ONE_SHELF}
    tiny, _ = with_wheels(target, tmp_path, files)
    refused(tiny, f"/{SITE}/shared/data", " and ".join(ONE_SHELF))


def test_the_same_content_is_no_conflict(target: Tiny, tmp_path: Path) -> None:
    files = {name: {"shared/data": b"same", f"{name}/x": b"x"} for name in ("ya", "yb")}
    tiny, _ = with_wheels(target, tmp_path, files)
    tiny.build()


@pytest.mark.parametrize("winner", ["xa", "xb"])
def test_the_winner_of_the_matrix_is_what_the_image_has(
    target: Tiny, tmp_path: Path, winner: str
) -> None:
    over = {"xa": "xb", "xb": "xa"}[winner]
    rules = rule(f"/{SITE}/shared/*", winner, over)
    tiny, locked = with_wheels(target, tmp_path, names("xa", "xb"), rules)
    assert locked.code == 0, locked.said
    tiny.build()
    found = files_in(tiny)
    assert found[f"{SITE}/shared/data"] == winner.encode()
    record = found[f"{SITE}/{over}-1.0.dist-info/RECORD"].decode()
    upper = winner == "xb"  # names decide, as both wheels are of one size
    assert ("shared/data" in record) is upper


def test_a_rule_that_settles_nothing_is_reported(target: Tiny, tmp_path: Path) -> None:
    rules = rule(f"/{SITE}/elsewhere/*", "xa", "xb")
    files = {name: {f"{name}/x": b"x"} for name in ("xa", "xb")}
    tiny, _ = with_wheels(target, tmp_path, files, rules)
    done = tiny.run("build")
    assert done.code == 3, done.said
    assert re.search(r"matrix\.yaml:\d+: .*elsewhere", done.said)


def test_a_wheel_against_what_is_made_of_an_sdist_is_refused(target: Tiny, tmp_path: Path) -> None:
    tiny, _ = with_wheels(target, tmp_path, {"xs": {"sourced/__init__.py": b"made = 'there'\n"}})
    refused(tiny, f"/{SITE}/sourced/__init__.py", "sourced", "xs")


def test_layers_that_are_there_are_compared_without_their_wheels(
    target: Tiny, tmp_path: Path
) -> None:
    """Each of two targets is well; the third has the layers of both, and no wheel is here."""
    (tmp_path / "both").mkdir()
    both, _ = with_wheels(target, tmp_path / "both", names("xa", "xb"))
    for name in ("xa", "xb"):
        (tmp_path / name).mkdir()
        one, _ = with_wheels(target, tmp_path / name, names(name))
        replace(one, store=both.store).build()
    shutil.rmtree(both.cache)
    both.fill_cache(warm=False)
    for item in both.locked():  # only what comes with the target itself
        if item.name not in ("xa", "xb"):
            path = download_cache.cached(item.artifact, both.cache)
            path.parent.mkdir(parents=True)
            path.write_bytes(both.index.files[item.artifact.filename])
    done = both.run("build", "--json", "--offline")
    assert done.code == 6, done.said
    assert "xa and xb" in done.said
    shutil.rmtree(both.store / ".roll" / "records")  # as in a store of an earlier version
    done = both.run("build", "--json", "--offline")
    assert "xa and xb" in done.said


def test_what_was_compared_is_not_compared_again(target: Tiny, tmp_path: Path) -> None:
    tiny, _ = with_wheels(target, tmp_path, {})
    tiny.build()
    note = tiny.store / ".roll" / f"compared-{TARGET}"
    written = note.stat().st_mtime_ns
    tiny.build()
    assert note.stat().st_mtime_ns == written


@pytest.mark.parametrize("wheels_are_here", [True, False])
def test_a_layer_that_a_rule_changed_is_compared_again(
    target: Tiny, tmp_path: Path, wheels_are_here: bool
) -> None:
    """What the rule left out of the loser's layer is not in the layer's RECORD."""
    tiny, _ = with_wheels(
        target, tmp_path, names("xa", "xb"), rule(f"/{SITE}/shared/*", "xa", "xb")
    )
    tiny.build()
    (tiny.store / ".roll" / f"compared-{TARGET}").unlink()
    if not wheels_are_here:
        for item in tiny.locked():
            if item.name in ("xa", "xb"):
                download_cache.cached(item.artifact, tiny.cache).unlink()
    tiny.build()
    assert files_in(tiny)[f"{SITE}/shared/data"] == b"xa"


def test_what_is_the_images_own_cannot_be_replaced(target: Tiny, tmp_path: Path) -> None:
    files = {
        "zz-1.0.data/scripts/python3": b"#!/bin/sh\n",
        "zz-1.0.data/data/pyvenv.cfg": b"home = /tmp\n",
        "zz-1.0.dist-info/entry_points.txt": b"[gui_scripts]\nnvcc = zz:x\n",
        "roll_runtime.pth": b"import os\n",
    }
    tiny, _ = with_wheels(target, tmp_path, {"zz": {**files, "zz/x": b"x"}})
    said = ("/opt/venv/bin/python3:", "/opt/venv/pyvenv.cfg:", "roll_runtime.pth:")
    refused(tiny, "zz would replace", "it hides /usr/local/cuda/bin/nvcc", *said)


def test_the_image_may_be_named_as_the_winner(target: Tiny, tmp_path: Path) -> None:
    files = {"zz-1.0.data/scripts/nvcc": b"#!/bin/sh\n", "zz/x": b"x"}
    rules = rule("/opt/venv/bin/nvcc", "the image", "zz")
    tiny, _ = with_wheels(target, tmp_path, {"zz": files}, rules)
    tiny.build()
    assert "opt/venv/bin/nvcc" not in files_in(tiny)
