"""Bundles of images on custom bases, unpacked at their destination."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from images.export.bundle import unpacker
from images.oci.descriptor import Blob
from images.oci.image import Image, Layer
from images.oci.layer.entry import Entry, of_bytes
from images.oci.store import store
from images.oci.store.maintenance import verify
from images.oci.store.store import Store
from tests.unit import bundles
from tests.unit.bundles import make, old_python, parts, record, run, tree
from tests.unit.layers import BASE, LOWER, Member, of_tar, tar, unpacked_image


@pytest.fixture
def image(tmp_path: Path) -> tuple[Store, Image]:
    """Three layers of a base, the second of which removes what is below, and two of our own."""
    layout = store.open_store(tmp_path / "store")
    own = [
        bundles.add(layout, [Entry("d", "dir", 0o750), of_bytes("d/file", b"ours")], "gzip"),
        bundles.add(layout, [of_bytes("opt/large", bundles.noise(300_000, 2))], "gzip"),
    ]
    below = [of_tar(layout, tar(members)) for members in BASE]
    return layout, on_base(layout, below, own)


def on_base(layout: Store, below: list[Blob], own: list[Blob]) -> Image:
    made = bundles.save(layout, "small", *below, *own)
    layers = [Layer("", blob) for blob in below] + list(made.layers[len(below) :])
    history = tuple({"created_by": "RUN something"} for _ in below)
    whole = replace(made, layers=tuple(layers), inherited=history)
    layout.save(whole)
    assert layout.load("small").inherited == history
    return layout.load("small")


@pytest.fixture
def expected(image: tuple[Store, Image]) -> dict[str, tuple[object, ...]]:
    """The image as tests.image.unpack writes it."""
    layout, whole = image
    return tree(unpacked_image(layout, whole))


def test_image_has_the_files_of_its_layers(
    expected: dict[str, tuple[object, ...]],
) -> None:
    assert set(expected) == {
        "abs", "closed", "closed/f", "d", "d/file", "d/large", "d/other", "d/sub", "d/sub/new",
        "now", "opt", "opt/large",
    }  # fmt: skip
    modes = {name: expected[name][1] for name in ("d", "closed")}
    assert modes == {"d": 0o750, "closed": 0o500}


@pytest.mark.parametrize("seed", range(2))
def test_parts_in_any_order_one_at_a_time(
    image: tuple[Store, Image], tmp_path: Path, expected: object, seed: int
) -> None:
    """Whatever arrives first, the base's layers come first, and no part goes before its time."""
    out, there = tmp_path / "out", tmp_path / "there"
    make(*image, out, 60_000)
    shutil.copytree(out, there, ignore=shutil.ignore_patterns("part-*"))
    queue = parts(out)
    assert len(queue) > 8
    random.Random(seed).shuffle(queue)
    for number, part in enumerate(queue, 1):
        shutil.copy(part, there)
        done = run(there, "--rootfs", tmp_path / "there-root", "--remove-parts")
        assert done.code == (0 if number == len(queue) else 3), done.said
    assert tree(tmp_path / "there-root") == expected
    assert record(tmp_path / "there-root")["complete"] is True
    assert parts(there) == []


def test_check_knows_what_layers_of_a_base_removed(
    image: tuple[Store, Image], tmp_path: Path
) -> None:
    make(*image, tmp_path / "out")
    root = tmp_path / "root"
    assert run(tmp_path / "out", "--rootfs", root).code == 0
    done = run(tmp_path / "out", "check", "--rootfs", root)
    assert done.code == 0, done.said
    (root / "l").touch()  # removed by the second layer
    (root / "d/sub/new").write_bytes(b"old")
    done = run(tmp_path / "out", "check", "--rootfs", root)
    assert done.code == 6
    assert "added: l\n" in done.said
    assert "changed: d/sub/new\n" in done.said


def test_layout_is_the_store_again_and_rootfs_beside_it(
    image: tuple[Store, Image], tmp_path: Path, expected: object
) -> None:
    layout, whole = image
    make(layout, whole, tmp_path / "out")
    to = ("--layout", tmp_path / "layout", "--rootfs", tmp_path / "there")
    done = run(tmp_path / "out", *to, python=old_python())
    assert done.code == 0, done.said
    assert "layer 1 of 5: layer 1, of the base" in done.said
    assert tree(tmp_path / "there") == expected
    found = store.open_store(tmp_path / "layout", create=False)
    assert found.images() == {"small": whole.manifest_digest}
    assert verify(found) == []


def test_damaged_layer_of_the_base_delays_the_others(
    image: tuple[Store, Image], tmp_path: Path, expected: object
) -> None:
    out, root = tmp_path / "out", tmp_path / "there"
    make(*image, out, 60_000)
    first = parts(out)[0]
    kept = first.read_bytes()
    first.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    done = run(out, "--rootfs", root)
    assert done.code == 6
    assert f"{first.name}: damaged" in done.said
    assert "0 of 5 layers are in place" in done.said
    first.write_bytes(kept)
    assert run(out, "--rootfs", root).code == 0
    assert tree(root) == expected


def test_layer_of_the_base_that_is_there_already(
    image: tuple[Store, Image], tmp_path: Path, expected: object
) -> None:
    layout, whole = image
    make(layout, whole, tmp_path / "first")
    assert run(tmp_path / "first", "--layout", tmp_path / "layout").code == 0
    base = [item.blob.digest for item in whole.layers[:3]]
    made = make(layout, whole, tmp_path / "second", since=base)
    assert made.left_out_layers == tuple(f"layer {number}, of the base" for number in (1, 2, 3))
    to = ("--rootfs", tmp_path / "there", "--from", tmp_path / "layout")
    assert run(tmp_path / "second", *to).code == 0
    assert tree(tmp_path / "there") == expected


def test_libzstd_comes_from_whichever_layer_of_the_base_has_it(tmp_path: Path) -> None:
    layout = store.open_store(tmp_path / "store")
    library = b"\x7fELF\0GLIBC_2.34\0"
    below = [of_tar(layout, tar(LOWER))]
    name = "./usr/lib/x86_64-linux-gnu/libzstd.so.1.5.2"
    below.append(of_tar(layout, tar([Member(name, library)])))
    whole = on_base(layout, below, [bundles.add(layout, [of_bytes("a", b"1")], "zstd")])
    files, needs = unpacker.files_for(layout, whole)
    assert files["libzstd.so.1"] == library
    assert "2.34" in needs
