"""torch_memory_saver as ROLL uses it: GPU memory goes between rollouts, and comes back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gpu import engines
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject

pytestmark = pytest.mark.alone_on_gpu


@pytest.fixture(scope="module")
def released(gpu: Box, subject: Subject, recorder: Recorder) -> dict[str, Any]:
    engines.need_engine(subject)
    options = ["--release-memory"]
    return engines.start(gpu, recorder, "released and resumed", *options, env=engines.ROLL)


def test_memory_goes_and_comes_back(released: dict[str, Any]) -> None:
    used = engines.reported(released, "memory_mib")
    print(used)
    assert used["running"] - used["released"] > 1800, "the KV cache has 2048 MiB"
    assert abs(used["resumed"] - used["running"]) < 256


def test_same_tokens_after_a_weight_update(released: dict[str, Any]) -> None:
    assert released["faults"] == []
    assert released["restored_ids"] == released["output_ids"]
