"""ROLL's order of calls to an engine on a GPU, without ROLL: `tests/image/cycle.py` makes them.

`tests/roll` has ROLL itself make them, in the images that hold what it needs. This is for all whose
SGLang takes the buckets that ROLL sends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.gpu import engines
from tests.image import cycle
from tests.image.box import Box
from tests.image.subject import Subject

PHASES = (
    "colocated",
    "stopped_between",
    "never_released",
    "straight_after",
    "several_answers",
    "abort",
    "broadcast",
)

_BUCKETS = """
import json
from importlib.util import find_spec
home = "sglang.srt.weight_sync"
print(json.dumps(find_spec(home) is not None and find_spec(f"{home}.tensor_bucket") is not None))
"""


@pytest.fixture(scope="module")
def seen(gpu: Box, subject: Subject) -> dict[str, Any]:
    """The observations of each phase, and the phases that are skipped."""
    engines.need_engine(subject)
    if not gpu.ask(_BUCKETS):
        pytest.skip(f"SGLang {subject.target.sglang} has none of the buckets that ROLL sends")
    unfixed = cycle.UNFIXED.get(subject.target.sglang, {})
    phases = [phase for phase in PHASES if phase not in unfixed]
    found = gpu.ask(Path(cycle.__file__).read_text(), "cuda", *phases, env=engines.ALONE)
    return {**found, "skipped": unfixed}


@pytest.mark.parametrize("step", cycle.UPDATED)
def test_weights_of_the_trainer_answer_after(seen: dict[str, Any], step: str) -> None:
    """Sent as tensors of CUDA by another process, or broadcast, to an engine with dummy weights."""
    assert seen[step] == cycle.TOKENS


def test_flush_straight_after_an_answer_happens(seen: dict[str, Any]) -> None:
    assert seen["straight after"] == cycle.FLUSHED


def test_several_answers_to_prompts_at_once_come(seen: dict[str, Any]) -> None:
    if "several_answers" in seen["skipped"]:
        pytest.skip(seen["skipped"]["several_answers"])
    assert seen["several answers"] == cycle.TWO_ANSWERS


def test_running_request_is_aborted(seen: dict[str, Any]) -> None:
    assert seen["abort"] == "abort"
