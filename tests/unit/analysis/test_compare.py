"""What differs between two images, and what moving from one to the other costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.analysis import compare
from images.analysis.compare import Change, Comparison
from images.analysis.summary import LayerSummary, Package
from images.build import titles
from images.oci.descriptor import Blob
from tests.unit.small_matrix import SMALL, TORCH, A, B, SmallMatrix, two_targets, wheel


@pytest.fixture
def work(tmp_path: Path) -> SmallMatrix:
    return two_targets(tmp_path)


def diff(work: SmallMatrix, old: str = A, new: str = B) -> Comparison:
    return compare.compare(work.find(old), work.find(new), work.store)


def titles_of(layers: tuple[LayerSummary, ...]) -> list[str]:
    return [layer.title for layer in layers]


BUILT = [(), ("052",), ("055",), ("052", "055")]


def test_image_that_lost_its_name_is_found_by_its_digest(work: SmallMatrix) -> None:
    old = work.build("052")
    work.write({"052": [TORCH, wheel("sgl-kernel", 310_000_000, "1.1"), SMALL]})
    new = work.build("052")
    found = diff(work, old.manifest_digest, A)
    assert found.new.digest == new.manifest_digest
    assert Change("distribution", "sgl-kernel", "1.0", "1.1", found.pull[0].size) in found.changes


@pytest.mark.parametrize("built", BUILT, ids=lambda built: "+".join(built) or "none")
def test_packages_that_differ_are_the_same_built_or_not(
    work: SmallMatrix, built: tuple[str, ...]
) -> None:
    for short in built:
        work.build(short)
    found = [(change.name, change.old, change.new) for change in diff(work).changes]
    assert found == [("idna", "1.0", None), ("lark", None, "1.0"), ("sgl-kernel", "1.0", "2.0")]
    back = [(change.name, change.new, change.old) for change in diff(work, B, A).changes]
    assert back == found


def test_cost_of_moving(work: SmallMatrix) -> None:
    work.build("052")
    new = work.build("055")
    found = diff(work)
    assert titles_of(found.pull)[0] == "sgl-kernel 2.0"
    assert found.pulled.layers + found.shared.layers == len(new.layers)
    assert found.pulled.bytes + found.shared.bytes == new.size
    assert found.common.layers == 5  # base, compiler, torch, links, pyarrow
    assert found.common.layers < found.shared.layers
    assert found.unpack.layers == len(new.layers) - 5
    unpacked = sum(layer.blob.unpacked for layer in new.layers)
    assert (found.common.unpacked or 0) + (found.unpack.unpacked or 0) == unpacked
    (kernel,) = (change for change in found.changes if change.name == "sgl-kernel")
    assert kernel.pull == found.pull[0].size
    assert [change.pull for change in found.changes if change.name == "lark"] == [None]


def test_cost_of_moving_to_what_is_not_built_is_of_its_files(work: SmallMatrix) -> None:
    work.build("052")
    found = diff(work)
    assert titles_of(found.pull)[0] == "sgl-kernel 2.0"
    assert found.pull[0].size == 360_000_000
    assert found.pulled.not_made == found.pulled.layers
    assert (found.shared.not_made, found.pulled.unpacked) == (0, None)


def test_no_difference(work: SmallMatrix) -> None:
    image = work.build("052")
    found = diff(work, A, A)
    assert (found.changes, found.pull, found.unpack.layers) == ((), (), 0)
    assert found.common == found.shared
    assert found.common.layers == len(image.layers)


def test_other_bytes_of_the_same_version_are_a_change() -> None:
    blobs = [Blob(f"sha256:{letter * 64}", "", 10, 20, "t") for letter in "ab"]
    old, new = (LayerSummary(titles.parse("torch 2.8.0"), "", blob) for blob in blobs)
    assert compare.changes([old], [new], None) == [
        Change("distribution", "torch", "2.8.0", "2.8.0", 10)
    ]


def test_neighbours_that_come_or_go_do_not_change_a_small_package() -> None:
    def bucket(key: str, *names: str) -> LayerSummary:
        held = tuple(Package("distribution", name, "1.0") for name in names)
        return LayerSummary(titles.bucket(1, 16), key, None, packages=held)

    assert compare.changes([bucket("a", "attrs", "lark")], [bucket("b", "attrs")], None) == [
        Change("distribution", "lark", "1.0", None)
    ]


def test_other_base_is_compared_by_its_packages_and_other_compiler_by_its_version() -> None:
    def base(version: str) -> LayerSummary:
        held = (Package("debian", "bash", "5"), Package("debian", "libc6", version))
        return LayerSummary(titles.DEBIAN, version, None, packages=held)

    found = compare.changes(
        [base("2.36-1"), LayerSummary(titles.compiler("12.4"), "a", None)],
        [base("2.36-2"), LayerSummary(titles.compiler("13.0"), "b", None, weight=7)],
        None,
    )
    assert found == [
        Change("debian", "libc6", "2.36-1", "2.36-2"),
        Change("toolkit", "cuda-compiler", "12.4", "13.0", 7),
    ]
