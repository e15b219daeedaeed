"""What an image's labels say, for every target of the matrix."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.assemble import assemble
from images.matrix import Target, load

TARGETS = load(Path(__file__).resolve().parents[2] / "matrix.yaml").targets
HOPPER = ["sm_80", "sm_86", "sm_89", "sm_90"]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.id))
def test_labels_tell_what_the_image_runs_on(target: Target) -> None:
    labels = assemble(target, "0" * 64, []).labels
    architectures = labels["roll.cuda.architectures"].split()
    cuda_12 = target.cuda.startswith("12.")
    assert architectures == HOPPER + ([] if cuda_12 else ["sm_100", "sm_103", "sm_120"])
    assert labels["roll.cuda.version"] == target.cuda
    assert labels["roll.cuda.driver.min"] == ("525.60.13" if cuda_12 else "580.65.06")
