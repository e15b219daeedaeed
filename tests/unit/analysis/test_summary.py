"""Summaries of targets before they are built, and of images in a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.analysis import summary
from images.analysis.summary import LayerSummary, Package
from images.build import titles
from images.errors import IntegrityError, LockError, UsageError
from tests.unit.small_matrix import SMALL, TORCH, A, B, SmallMatrix, debs, two_targets, wheel


@pytest.fixture
def work(tmp_path: Path) -> SmallMatrix:
    return two_targets(tmp_path)


def titles_of(layers: tuple[LayerSummary, ...]) -> list[str]:
    return [layer.title for layer in layers]


def test_summary_of_a_target_needs_no_store(work: SmallMatrix) -> None:
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


def test_summary_of_a_target_knows_what_the_store_has(work: SmallMatrix) -> None:
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


def test_image_of_the_store_goes_before_the_target(work: SmallMatrix) -> None:
    assert work.find(A).digest is None
    image = work.build("052")
    found = work.find(A)
    assert (found.digest, found.renewed) == (image.manifest_digest, False)
    assert work.find(image.manifest_digest).identities == found.identities
    assert work.find(image.manifest_digest[:19]).identities == found.identities


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_image_whose_lock_was_renewed_is_reported(work: SmallMatrix, compression: str) -> None:
    work.build("052", "gzip" if compression == "gzip" else "zstd")
    assert work.find(A).renewed is False
    work.write({"052": [TORCH, wheel("sgl-kernel", 300_000_000, "1.1"), SMALL]})
    assert work.find(A).renewed is True
    work.matrix.lock_path(A).unlink()
    assert work.find(A).renewed is True


def test_names_that_stand_for_nothing(work: SmallMatrix) -> None:
    with pytest.raises(UsageError, match="did you mean 'torch280-sglang055'"):
        work.find("torch280-sglang0555")
    with pytest.raises(UsageError, match=r"holds no image sha256:00"):
        work.find("sha256:00")
    work.build("052")
    with pytest.raises(UsageError, match="several blobs that begin with sha256:"):
        work.find("sha256:")
    with pytest.raises(UsageError, match="no target and no image"):
        summary.find("sha256:00", work.matrix, None, "zstd")
    work.matrix.lock_path(B).unlink()
    with pytest.raises(LockError, match="no such lock"):
        work.find(B)


def test_digest_of_a_layer_is_no_image(work: SmallMatrix) -> None:
    digest = next(layer.blob.digest for layer in work.build("052").layers)
    with pytest.raises(IntegrityError, match="not an image of this builder"):
        work.find(digest)
