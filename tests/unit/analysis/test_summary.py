"""Summaries: of a target before it is built, of an image in a store, and what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.analysis import compare, packages, summary
from images.analysis.compare import Change, Comparison
from images.analysis.summary import ImageSummary, LayerSummary, Package
from images.build import titles
from images.build.titles import Kind
from images.errors import IntegrityError, LockError, UsageError
from images.oci.layer.writer import Blob
from tests.unit.workplaces import Workplace, debs, wheel

A, B = "torch280-sglang052", "torch280-sglang055"
TORCH, KERNEL = wheel("torch", 900_000_000, "2.8.0"), wheel("sgl-kernel", 300_000_000)
SMALL = wheel("attrs", 60_000)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    work = Workplace(tmp_path)
    kernel = wheel("sgl-kernel", 360_000_000, "2.0")
    work.write(
        {
            "052": [TORCH, KERNEL, wheel("pyarrow", 46_000_000), SMALL, wheel("idna", 70_000)],
            "055": [TORCH, kernel, wheel("pyarrow", 46_000_000), SMALL, wheel("lark", 5_000)],
        }
    )
    return work


def find(work: Workplace, name: str) -> ImageSummary:
    return summary.find(name, work.matrix, work.store, "zstd")


def diff(work: Workplace, old: str = A, new: str = B) -> Comparison:
    return compare.compare(find(work, old), find(work, new), work.store)


def titles_of(layers: tuple[LayerSummary, ...]) -> list[str]:
    return [layer.title for layer in layers]


# -- summaries -------------------------------------------------------------------------------------


def test_summary_of_a_target_needs_no_store(work: Workplace) -> None:
    found = summary.of_target(work.matrix, work.matrix.target(A), None, "zstd")
    assert titles_of(found.layers)[:4] == [
        "Debian bookworm",
        "CUDA compiler 12.4",
        "torch 2.8.0",
        "CUDA links",
    ]
    assert found.layers[-1].name == titles.RUNTIME
    assert found.digest is None
    assert all(layer.blob is None and layer.identity == layer.key for layer in found.layers)
    torch = found.layers[2]
    assert (torch.size, torch.files) == (900_000_000, (TORCH.artifact,))
    assert torch.packages == (Package("distribution", "torch", "2.8.0"),)
    assert len(found.layers[0].packages or ()) == debs()
    held = [item.name for layer in found.layers for item in layer.packages or ()]
    assert {"attrs", "idna", "pyarrow", "cuda-compiler", "roll-runtime"} <= set(held)


def test_summary_of_a_target_knows_what_the_store_has(work: Workplace) -> None:
    image = work.build("052")
    one = summary.of_target(work.matrix, work.matrix.target(A), work.store, "zstd")
    assert one.identities == [layer.blob.digest for layer in image.layers]
    assert one.size == image.size
    other = summary.of_target(work.matrix, work.matrix.target(B), work.store, "zstd")
    made = {layer.title for layer in other.layers if layer.blob}
    assert {"torch 2.8.0", "pyarrow 1.0", "Debian bookworm"} <= made
    assert "sgl-kernel 2.0" not in made
    in_gzip = summary.of_target(work.matrix, work.matrix.target(A), work.store, "gzip")
    assert not any(layer.blob for layer in in_gzip.layers)


def test_image_of_the_store_goes_before_the_target(work: Workplace) -> None:
    assert find(work, A).digest is None
    image = work.build("052")
    found = find(work, A)
    assert (found.digest, found.renewed) == (image.manifest_digest, False)
    assert find(work, image.manifest_digest).identities == found.identities
    assert find(work, image.manifest_digest[:19]).identities == found.identities


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_image_whose_lock_was_renewed_is_reported(work: Workplace, compression: str) -> None:
    work.build("052", "gzip" if compression == "gzip" else "zstd")
    assert find(work, A).renewed is False
    work.write({"052": [TORCH, wheel("sgl-kernel", 300_000_000, "1.1"), SMALL]})
    assert find(work, A).renewed is True
    work.matrix.lock_path(A).unlink()
    assert find(work, A).renewed is True


def test_names_that_stand_for_nothing(work: Workplace) -> None:
    with pytest.raises(UsageError, match="did you mean 'torch280-sglang055'"):
        find(work, "torch280-sglang0555")
    with pytest.raises(UsageError, match=r"holds no image sha256:00"):
        find(work, "sha256:00")
    work.build("052")
    with pytest.raises(UsageError, match="several blobs that begin with sha256:"):
        find(work, "sha256:")
    with pytest.raises(UsageError, match="no target and no image"):
        summary.find("sha256:00", work.matrix, None, "zstd")
    work.matrix.lock_path(B).unlink()
    with pytest.raises(LockError, match="no such lock"):
        find(work, B)


def test_digest_of_a_layer_is_no_image(work: Workplace) -> None:
    digest = next(layer.blob.digest for layer in work.build("052").layers)
    with pytest.raises(IntegrityError, match="not a manifest of ours"):
        find(work, digest)


def test_image_that_lost_its_name_is_found_by_its_digest(work: Workplace) -> None:
    old = work.build("052")
    work.write({"052": [TORCH, wheel("sgl-kernel", 310_000_000, "1.1"), SMALL]})
    new = work.build("052")
    found = diff(work, old.manifest_digest, A)
    assert found.new.digest == new.manifest_digest
    assert Change("distribution", "sgl-kernel", "1.0", "1.1", found.pull[0].size) in found.changes


# -- packages --------------------------------------------------------------------------------------


def test_layers_of_an_image_hold_what_the_lock_says(work: Workplace) -> None:
    """By title or by reading them, all packages of a built image are those of its summary."""
    planned = summary.of_target(work.matrix, work.matrix.target(A), None, "zstd")
    work.build("052")
    for mine, made in zip(planned.layers, find(work, A).layers, strict=True):
        assert made.packages is None
        assert sorted(packages.packages(made, work.store)) == sorted(mine.packages or ())


def test_damaged_layer_that_must_be_read_is_reported(work: Workplace) -> None:
    work.build("052")
    bucket = next(layer for layer in find(work, A).layers if layer.name.kind is Kind.BUCKET)
    assert bucket.blob
    work.store.blob_path(bucket.identity).write_bytes(b"x" * bucket.size)
    with pytest.raises(IntegrityError, match="a layer cannot be read"):
        packages.packages(bucket, work.store)


# -- differences -----------------------------------------------------------------------------------

BUILT = [(), ("052",), ("055",), ("052", "055")]


@pytest.mark.parametrize("built", BUILT, ids=lambda built: "+".join(built) or "none")
def test_packages_that_differ_are_the_same_built_or_not(
    work: Workplace, built: tuple[str, ...]
) -> None:
    for short in built:
        work.build(short)
    found = [(change.name, change.old, change.new) for change in diff(work).changes]
    assert found == [("idna", "1.0", None), ("lark", None, "1.0"), ("sgl-kernel", "1.0", "2.0")]
    back = [(change.name, change.new, change.old) for change in diff(work, B, A).changes]
    assert back == found


def test_cost_of_moving(work: Workplace) -> None:
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


def test_cost_of_moving_to_what_is_not_built_is_of_its_files(work: Workplace) -> None:
    work.build("052")
    found = diff(work)
    assert titles_of(found.pull)[0] == "sgl-kernel 2.0"
    assert found.pull[0].size == 360_000_000
    assert found.pulled.not_made == found.pulled.layers
    assert (found.shared.not_made, found.pulled.unpacked) == (0, None)


def test_no_difference(work: Workplace) -> None:
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
