"""The union of images against their sum, and against what sharing whole wheels would allow."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.analysis import sharing
from images.analysis.sharing import Share
from images.analysis.summary import LayerSummary
from images.build import grouping, titles
from images.build.titles import Kind
from images.inputs.lock.artifact import Artifact
from images.oci.descriptor import Blob
from tests.unit.small_matrix import SmallMatrix, wheel

TORCH = wheel("torch", 900_000_000)
SMALL = [wheel("attrs", 600_000), wheel("idna", 300_000)]


@pytest.fixture
def work(tmp_path: Path) -> SmallMatrix:
    work = SmallMatrix(tmp_path)
    work.write(
        {
            "052": [TORCH, wheel("sgl-kernel", 300_000_000), *SMALL],
            "054": [TORCH, wheel("sgl-kernel", 360_000_000), *SMALL],
            "055": [TORCH],
        },
        {"054": "2GB"},
    )
    return work


def test_without_a_store_the_locked_files_tell(work: SmallMatrix) -> None:
    found = sharing.measure(work.matrix, None)
    assert [row.files for row in found.rows] == [1_200_900_000, 1_260_900_000, 900_000_000]
    assert [row.image for row in found.rows] == [None] * 3
    assert [row.budget for row in found.rows] == [None, 2_000_000_000, None]
    assert found.files == Share(3_361_800_000, 1_560_900_000)
    assert (found.images, found.images.ratio, found.over) == (Share(0, 0), 1.0, 0.0)
    assert found.largest == ()


def test_images_are_counted_by_their_layers(work: SmallMatrix) -> None:
    images = [work.build("052"), work.build("054")]
    found = sharing.measure(work.matrix, work.store)
    assert found.images.sum == sum(image.size for image in images)
    different = {layer.blob.digest: layer.blob.size for image in images for layer in image.layers}
    assert found.images.union == sum(different.values())
    kernels = [
        next(layer.blob.size for layer in image.layers if layer.title.startswith("sgl"))
        for image in images
    ]
    assert [row.alone for row in found.rows] == [*kernels, 0]
    assert [row.image is not None for row in found.rows] == [True, True, False]
    sizes = [common.layer.size for common in found.largest]
    assert sizes == sorted(sizes, reverse=True)
    assert (found.largest[0].layer.title, found.largest[0].images) == ("torch 1.0", 2)
    assert len(found.largest) == len(different)


def test_whole_wheels_allow_as_much_where_every_layer_is_of_one(work: SmallMatrix) -> None:
    work.build("052")
    work.build("054")
    found = sharing.measure(work.matrix, work.store)
    assert found.whole_wheels == pytest.approx(found.images.union, abs=2)


def test_bucket_that_differs_in_one_wheel_costs_the_others_again(tmp_path: Path) -> None:
    shared, bumped = _bucket_mates(2)
    work = SmallMatrix(tmp_path)
    common = wheel(shared, 900_000)
    work.write(
        {"052": [common, wheel(bumped, 90_000)], "054": [common, wheel(bumped, 90_000, "2.0")]}
    )
    work.build("052", "gzip")
    work.build("054", "gzip")
    found = sharing.measure(work.matrix, work.store)
    bucket = min(c.layer.size for c in found.largest if c.layer.name.kind is Kind.BUCKET)
    lost = found.images.union - found.whole_wheels
    assert lost == pytest.approx(bucket * 900_000 / 990_000, rel=0.02)
    assert found.over == pytest.approx(found.images.union / found.whole_wheels - 1)


def _bucket_mates(count: int) -> list[str]:
    """Names that are all in one bucket."""
    names = [f"mate{number}" for number in range(200)]
    (first, *_) = sorted(
        grouping.groups(wheel(name, 10) for name in names),
        key=lambda group: -len(group.distributions),
    )
    return [item.name for item in first.distributions[:count]]


def test_image_of_older_locks_counts_by_its_layers(work: SmallMatrix) -> None:
    image = work.build("052")
    work.matrix.lock_path("torch280-sglang052").unlink()
    found = sharing.measure(work.matrix, work.store)
    assert found.rows[0].files is None
    assert found.whole_wheels == found.images.union == image.size


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 9)), min_size=1, max_size=4),
        max_size=6,
    )
)
def test_whole_wheels_never_come_to_more_than_the_layers(
    content: list[list[tuple[str, int]]],
) -> None:
    layers, files = [], {}
    for number, wheels in enumerate(content):
        held = {name: Artifact(name, name, size) for name, size in wheels}
        blob = Blob(f"sha256:{number}", "", 1000 * (number + 1), 1, "t")
        layers.append(LayerSummary(titles.parse("t"), "", blob))
        files[blob.digest] = tuple(held.values())
    assert sharing.whole_wheels(layers, files) <= sum(layer.size for layer in layers) + 1
    assert sharing.whole_wheels(layers, {}) == sum(layer.size for layer in layers)
