"""SGLang's own attention and sampling backends with CUDA graphs: what ROLL's users run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gpu import engines
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject


@pytest.fixture(scope="module")
def defaults(gpu: Box, subject: Subject, recorder: Recorder) -> dict[str, Any]:
    engines.need_engine(subject)
    options = ["--default-backends", "--release-memory"]
    return engines.start(gpu, recorder, "SGLang's own backends", *options, env=engines.ROLL)


def test_generates_with_cuda_graphs(defaults: dict[str, Any]) -> None:
    assert len(engines.reported(defaults, "output_ids")) == 8
    assert len(engines.reported(defaults, "sampled_ids")) == 8, "sampled with top-p and top-k"
    print(defaults["compiled"])


def test_cuda_graphs_outlive_a_release(defaults: dict[str, Any]) -> None:
    """The graphs hold addresses: what comes back must come back where it was."""
    assert engines.faults(defaults) == []
    assert defaults["restored_ids"] == defaults["output_ids"]
