"""Bundles as they are written: what is in them, when, and where."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from images.errors import IntegrityError, StoreError, UsageError
from images.export.bundle import delta, directory, planning, unpacker
from images.oci.image import Image
from images.oci.layer.entry import of_bytes
from images.oci.store.store import Store
from images.repository import ROOT
from images.unbundle import document
from images.unbundle.sources import inventory
from tests.damage import flip
from tests.unit import bundles
from tests.unit.command_line import cli, failed


@pytest.fixture
def small(tmp_path: Path) -> tuple[Store, Image]:
    return bundles.three_layers(tmp_path / "store")


def test_parts_are_the_blobs_cut_at_the_part_size(
    small: tuple[Store, Image], tmp_path: Path
) -> None:
    layout, image = small
    made = bundles.make(layout, image, tmp_path / "out", 100_000)
    found = bundles.parts(tmp_path / "out")
    assert [path.name for path in found] == [part.name for part in made.bundle.parts]
    assert {path.stat().st_size for path in found[:-1]} == {100_000}
    stream = b"".join(path.read_bytes() for path in found)
    assert stream == b"".join(
        layout.blobs.path(item.blob.digest).read_bytes() for item in image.layers
    )
    for path, part in zip(found, made.bundle.parts, strict=True):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == part.sha256
        assert path.stat().st_size == part.size


def test_the_same_bytes_twice_and_in_place_of_another(
    small: tuple[Store, Image], tmp_path: Path
) -> None:
    layout, image = small
    bundles.make(layout, image, tmp_path / "first")
    bundles.make(layout, image, tmp_path / "second", 7_000)
    assert bundles.files(tmp_path / "first") != bundles.files(tmp_path / "second")
    bundles.make(layout, image, tmp_path / "second")
    assert bundles.files(tmp_path / "first") == bundles.files(tmp_path / "second")


@pytest.mark.parametrize("name", ["mine", "part-x", "part-00", "unpack.py", "part-0000"])
def test_a_directory_of_something_else_is_refused(
    small: tuple[Store, Image], tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("precious")
    with pytest.raises(UsageError, match=name):
        bundles.make(*small, out)
    assert bundles.files(out) == {name: b"precious"}
    bundles.make(*small, tmp_path / "whole")
    (tmp_path / "whole" / "mine").write_text("precious")
    with pytest.raises(UsageError, match="mine"):
        bundles.make(*small, tmp_path / "whole")
    assert (tmp_path / "whole" / "bundle.json").exists()


def test_a_file_in_the_place_is_refused(small: tuple[Store, Image], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(UsageError, match="not a directory"):
        bundles.make(*small, tmp_path / "out")


def test_one_bundle_at_a_time(small: tuple[Store, Image], tmp_path: Path) -> None:
    with directory.writing(tmp_path / "out"), pytest.raises(UsageError, match="another bundle"):
        bundles.make(*small, tmp_path / "out")


KILLED = """
import os, signal, sys
from pathlib import Path
from images.export.bundle import bundle, delta, planning
from images.oci.store import store
layout = store.open_store(Path(sys.argv[1]), create=False)
plan = planning.plan(layout, layout.load("small"), delta.read_inventories([]))
calls = int(sys.argv[3])
def audit(event, arguments):
    global calls
    at_place = arguments and str(arguments[0]).startswith(sys.argv[2])
    if at_place and event in ("open", "os.rename", "os.remove"):
        calls -= 1
        if calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(audit)
bundle.write(plan, Path(sys.argv[2]), 300_000)
"""


@pytest.mark.parametrize("before", [None, 450_000])
def test_killed_at_every_file_it_never_looks_whole_and_can_be_finished(
    small: tuple[Store, Image], tmp_path: Path, before: int | None
) -> None:
    """Into a new directory, and in place of a bundle with other parts."""
    layout, image = small
    bundles.make(layout, image, tmp_path / "right", 300_000)
    right = bundles.files(tmp_path / "right")
    out = tmp_path / "out"
    kills = 0
    while True:
        if before:
            shutil.rmtree(out, ignore_errors=True)
            bundles.make(layout, image, out, before)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(layout.path), str(out), str(kills + 1)],
            cwd=ROOT,
            check=False,
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        kills += 1
        if (out / "bundle.json").exists():
            assert bundles.run(out, "check").code == 0
        elif out.exists() and any(out.iterdir()):
            assert (out / ".bundle-unfinished").exists()
    assert kills > len(bundles.parts(out))
    assert bundles.files(out) == right


def test_a_damaged_or_missing_layer_stops_it(small: tuple[Store, Image], tmp_path: Path) -> None:
    layout, image = small
    path = layout.blobs.path(image.layers[1].blob.digest)
    flip(path)
    with pytest.raises(IntegrityError, match=path.name):
        bundles.make(layout, image, tmp_path / "out")
    assert not (tmp_path / "out" / "bundle.json").exists()
    path.unlink()
    with pytest.raises(IntegrityError, match=path.name):
        bundles.make(layout, image, tmp_path / "out")


def test_full_disk_is_reported_and_leaves_no_bundle(
    small: tuple[Store, Image], tiny_disk: Path
) -> None:
    with pytest.raises(StoreError, match="No space left"):
        bundles.make(*small, tiny_disk / "out", 700_000)
    assert not (tiny_disk / "out" / "bundle.json").exists()


def test_too_many_parts_are_refused(small: tuple[Store, Image], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than 100000"):
        bundles.make(*small, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


def test_the_unpacker_contains_its_modules_and_is_readable() -> None:
    content = unpacker.files()
    assert content == unpacker.files()
    assert content["unpack.py"].startswith(b"#!/usr/bin/env python3\n")
    # Stored, not compressed: what will run can be read before it does.
    assert b"class Tree:" in content["unpack.py"]
    assert b"roll-sglang" in content["unpack.py"]
    assert content["inventory.py"] == Path(inventory.__file__).read_bytes()


# -- what the destination has ----------------------------------------------------------------------


def write_inventory(path: Path, *directories: Path, min_size: int = inventory.MIN_SIZE) -> Path:
    with path.open("w") as out:
        inventory.write(inventory.take(directories, 2, min_size), out)
    return path


def test_inventory_lists_regular_files_once(tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "in ner").mkdir(parents=True)
    (place / "in ner" / 'new\nline "').write_bytes(b"a" * 20_000)
    os.link(place / "in ner" / 'new\nline "', place / "z")
    (place / "link").symlink_to("z")
    (place / "small").write_bytes(b"a" * 16_383)
    (place / os.fsdecode(b"\xff")).write_bytes(b"b" * 16_384)
    listed = write_inventory(tmp_path / "inventory", place)
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert lines[-1] == {"files": 2}
    assert sorted((size, Path(path).read_bytes()[:1]) for _, size, path in lines[:-1]) == [
        (16_384, b"b"),
        (20_000, b"a"),
    ]
    for sha256, _, path in lines[:-1]:
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256
    assert delta.read_inventories([listed]).sizes == {16_384, 20_000}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text.partition("\n")[0] + "\n",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"files": 2', '"files": 3'),
        lambda text: "no inventory\n",
        lambda text: '["short", 1, "/x"]\n{"files": 1}\n',
        lambda text: "[1, 2, 3]\n",
    ],
)
def test_a_truncated_inventory_is_refused(tmp_path: Path, spoil: object) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() * 20_000)
    listed = write_inventory(tmp_path / "inventory", tmp_path)
    assert callable(spoil)
    listed.write_text(spoil(listed.read_text()))
    with pytest.raises(UsageError, match="inventory"):
        delta.read_inventories([listed])


def test_plans_follow_from_what_is_there(small: tuple[Store, Image], tmp_path: Path) -> None:
    layout, image = small
    place = tmp_path / "place"
    place.mkdir()
    (place / "some name").write_bytes(bundles.noise(60_000, 1))
    (place / "closed").write_bytes(b"x" * 300_000)
    (place / "size of another").write_bytes(b"y" * 40_000)
    whole = layout.blobs.path(image.layers[1].blob.digest)
    (place / whole.name).write_bytes(whole.read_bytes())
    known = delta.read_inventories([write_inventory(tmp_path / "inventory", place)])
    plans = planning.plan(layout, image, known, 2).layers
    assert [plan.travels for plan in plans] == ["recipe", "held", "blob"]
    assert plans[0].delta is not None
    assert sorted(copy.size for copy in plans[0].delta.copies) == [60_000, 300_000]
    assert plans[0].delta.length == image.layers[0].blob.unpacked
    assert plans[1].path == str(place / whole.name)
    made = bundles.make(layout, image, tmp_path / "out", have=[tmp_path / "inventory"])
    assert made.left_out_layers == ("layer 1",)
    assert made.recipes == ("layer 0",)
    assert made.bytes + made.left_out == image.size
    top = layout.blobs.path(image.layers[2].blob.digest).read_bytes()
    stream = b"".join(path.read_bytes() for path in bundles.parts(tmp_path / "out"))
    assert stream.endswith(top)
    assert len(stream) < len(top) + 5_000


def test_a_copy_that_saves_next_to_nothing_leaves_the_blob(tmp_path: Path) -> None:
    layout, _ = bundles.three_layers(tmp_path / "store")
    blob = bundles.add(
        layout,
        [of_bytes("a", bundles.noise(20_000, 5)), of_bytes("b", bundles.noise(3_000_000, 6))],
    )
    image = bundles.save(layout, "mostly-new", blob)
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "a").write_bytes(bundles.noise(20_000, 5))
    known = delta.read_inventories([write_inventory(tmp_path / "inventory", tmp_path / "place")])
    assert [plan.travels for plan in planning.plan(layout, image, known).layers] == ["blob"]


def test_without_files_to_compare_no_layer_is_read(small: tuple[Store, Image]) -> None:
    layout, image = small
    for item in image.layers:
        layout.blobs.path(item.blob.digest).unlink()
    known = delta.read_inventories([], [image.layers[0].blob.digest])
    plans = planning.plan(layout, image, known).layers
    assert [plan.travels for plan in plans] == ["held", "blob", "blob"]


def test_a_tar_of_another_diff_id_is_not_made_a_recipe(
    small: tuple[Store, Image], tmp_path: Path
) -> None:
    layout, image = small
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "file").write_bytes(bundles.noise(60_000, 1))
    listed = write_inventory(tmp_path / "inventory", tmp_path / "place")
    wrong = replace(image.layers[0].blob, diff_id=f"sha256:{'0' * 64}")
    layers = (replace(image.layers[0], blob=wrong), *image.layers[1:])
    with pytest.raises(IntegrityError, match="its tar is not"):
        bundles.make(layout, replace(image, layers=layers), tmp_path / "out", have=[listed])


# -- bundle.json -----------------------------------------------------------------------------------


def test_document_round_trip(small: tuple[Store, Image], tmp_path: Path) -> None:
    layout, image = small
    made = bundles.make(layout, image, tmp_path / "out")
    content = (tmp_path / "out" / "bundle.json").read_bytes()
    assert document.decode(content) == made.bundle
    assert document.encode(made.bundle) == content
    assert made.bundle.manifest.encode() == image.manifest
    assert made.bundle.manifest_digest == image.manifest_digest
    assert made.bundle.config_digest == image.config_digest
    assert made.bundle.env == dict(image.env)


def test_any_changed_byte_of_the_document_is_found(
    small: tuple[Store, Image], tmp_path: Path
) -> None:
    bundles.make(*small, tmp_path / "out")
    content = (tmp_path / "out" / "bundle.json").read_bytes()
    same = document.decode(content)
    for at in range(0, len(content), 7):
        spoilt = bytearray(content)
        spoilt[at] ^= 1
        # White space may change, the content must not.
        with suppress(IntegrityError):
            assert document.decode(bytes(spoilt)) == same
    for cut in (0, 1, len(content) // 2, len(content) - 3):
        with pytest.raises(IntegrityError):
            document.decode(content[:cut])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ref", "../x"),
        ("ref", "x\nrm -rf /"),
        ("manifest", "{}"),
        ("config", "{}"),
        ("part_size", 0),
        ("part_size", 99_999),
        ("parts", ()),
        ("layers", ()),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(
    small: tuple[Store, Image], tmp_path: Path, field: str, value: object
) -> None:
    """Its sum is right."""
    made = bundles.make(*small, tmp_path / "out").bundle
    spoilt = replace(made, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        document.decode(document.encode(spoilt))


def test_names_of_parts_lead_nowhere_else(small: tuple[Store, Image], tmp_path: Path) -> None:
    made = bundles.make(*small, tmp_path / "out").bundle
    for name in (
        "../part-0000",
        "/etc/passwd",
        "part-0000/x",
        "part-1",
        made.parts[1].name,
        "part-0000\n",
    ):
        spoilt = replace(made, parts=(replace(made.parts[0], name=name), *made.parts[1:]))
        with pytest.raises(IntegrityError, match="names of parts"):
            document.decode(document.encode(spoilt))


@pytest.mark.parametrize("field", ["offset", "length", "digest", "diff_id", "travels", "size"])
def test_layers_are_checked_against_manifest_and_config(
    small: tuple[Store, Image], tmp_path: Path, field: str
) -> None:
    made = bundles.make(*small, tmp_path / "out").bundle
    value = getattr(made.layers[1], field)
    wrong: Any = value + 1 if isinstance(value, int) else f"{value}x"
    other = replace(made.layers[1], **{field: wrong})
    spoilt = replace(made, layers=(made.layers[0], other, made.layers[2]))
    with pytest.raises(IntegrityError, match="contradicts itself"):
        document.decode(document.encode(spoilt))


# -- the command -----------------------------------------------------------------------------------


def test_command_writes_one_document_and_prints_the_next_step(
    small: tuple[Store, Image], tmp_path: Path
) -> None:
    layout, image = small
    out = tmp_path / "out"
    options = ("--store", layout.path, "--out", out, "--part-size", "200kB")
    done = cli("bundle", "--target", "small", *options, "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["manifest_digest"] == image.manifest_digest
    assert [part["name"] for part in printed["parts"]] == [path.name for path in bundles.parts(out)]
    assert printed["bytes"] == image.size
    assert (printed["target"], printed["left_out"], printed["out"]) == ("small", 0, str(out))
    assert "python3 unpack.py --rootfs DIR" in done.stderr
    plain = cli("bundle", "--target", "small", *options)
    assert plain.stdout == ""


def test_command_since_leaves_out_the_layers_of_another_image(
    small: tuple[Store, Image], tmp_path: Path
) -> None:
    layout, image = small
    more = bundles.add(layout, [of_bytes("new", bundles.noise(50_000, 9))])
    newer = bundles.save(layout, "newer", *(item.blob for item in image.layers), more)
    options = ("--target", "newer", "--store", layout.path, "--out", tmp_path / "out", "--json")
    for since in ("small", image.manifest_digest):
        done = cli("bundle", *options, "--since", since)
        printed = json.loads(done.stdout)
        assert printed["left_out_layers"] == ["layer 0", "layer 1", "layer 2"]
        assert printed["bytes"] == more.size
        assert printed["manifest_digest"] == newer.manifest_digest
    for unknown in ("smaller", f"sha256:{'1' * 64}", "sha256:short"):
        assert cli("bundle", *options, "--since", unknown).returncode in (2, 7)


@pytest.mark.parametrize("size", ["0", "-1", "60XB", "1.5MB", "MB", "", "6 0", "٦MB"])
def test_command_refuses_what_is_no_size(tmp_path: Path, size: str) -> None:
    said = failed(2, "bundle", "--target", "x", "--out", tmp_path / "out", f"--part-size={size}")
    assert "not a size" in said


def test_command_names_an_unknown_target(small: tuple[Store, Image], tmp_path: Path) -> None:
    options = ("--store", small[0].path, "--out", tmp_path / "out")
    said = failed(2, "bundle", "--target", "smal", *options)
    assert "no image 'smal'; did you mean 'small'?" in said
    said = failed(2, "bundle", "--target", "small", "--since", "torch280-sglang52", *options)
    assert "did you mean 'torch280-sglang052'?" in said
    assert "holds no image" in failed(2, "bundle", "--target", "torch280-sglang052", *options)
    assert not (tmp_path / "out").exists()
    said = failed(2, "bundle", "--target", "small", *options, "--have", tmp_path / "none")
    assert "cannot be read" in said
