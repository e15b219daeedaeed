"""bf16 weights quantised to block FP8 while they are loaded, at start and at a weight update."""

from __future__ import annotations

from typing import Any

import pytest

from images.attest.evidence import Machine
from tests.gpu import engines
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject


@pytest.fixture(scope="module")
def quantised(gpu: Box, subject: Subject, recorder: Recorder, machine: Machine) -> dict[str, Any]:
    engines.need_fp8(gpu, subject, machine)
    options = ["--fp8", "--release-memory"]
    return engines.start(gpu, recorder, "block FP8 on load", *options, env=engines.ROLL)


def test_weights_are_quantised(quantised: dict[str, Any]) -> None:
    """The scheduler tells what its first parameter is once a bf16 weight was loaded into it."""
    assert engines.reported(quantised, "quantised") == ["the first one is torch.float8_e4m3fn now"]


def test_generates(quantised: dict[str, Any]) -> None:
    assert len(engines.reported(quantised, "output_ids")) == 8
    print(quantised["compiled"])


def test_updated_weights_are_quantised_again(quantised: dict[str, Any]) -> None:
    assert engines.faults(quantised) == []
    assert quantised["restored_ids"] == quantised["output_ids"]
