"""Packages in layers: by their titles, or by reading them."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.analysis import packages, summary
from images.build.titles import Kind
from images.errors import IntegrityError
from tests.unit.small_matrix import A, SmallMatrix, two_targets


@pytest.fixture
def work(tmp_path: Path) -> SmallMatrix:
    return two_targets(tmp_path)


def test_layers_of_an_image_contain_what_the_lock_lists(work: SmallMatrix) -> None:
    """By title or by reading them, all packages of a built image are those of its summary."""
    planned = summary.of_target(work.matrix, work.matrix.target(A), None, "zstd")
    work.build("052")
    for mine, made in zip(planned.layers, work.find(A).layers, strict=True):
        assert made.packages is None
        assert sorted(packages.packages(made, work.store)) == sorted(mine.packages or ())


def test_damaged_layer_that_must_be_read_is_reported(work: SmallMatrix) -> None:
    work.build("052")
    bucket = next(layer for layer in work.find(A).layers if layer.name.kind is Kind.BUCKET)
    assert bucket.blob
    work.store.blobs.path(bucket.identity).write_bytes(b"x" * bucket.size)
    with pytest.raises(IntegrityError, match="a layer cannot be read"):
        packages.packages(bucket, work.store)
