"""ROLL's order of calls to an engine on a GPU, without ROLL: `tests/image/cycle.py` makes them.

`tests/roll` has ROLL itself make them, in the images that hold what it needs. This is for all whose
SGLang takes the buckets that ROLL sends.
"""

from __future__ import annotations

import pytest

from tests.gpu import engines
from tests.image import phases
from tests.image.box import Box
from tests.image.phases import Seen
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
def seen(gpu: Box, subject: Subject) -> Seen:
    """The observations of each phase, and the phases that are skipped."""
    engines.need_engine(subject)
    if not gpu.ask(_BUCKETS):
        pytest.skip(f"SGLang {subject.target.sglang} has none of the buckets that ROLL sends")
    unfixed = phases.UNFIXED.get(subject.target.sglang, {})
    return phases.run(gpu, "cuda", PHASES, unfixed, engines.ALONE)


@pytest.mark.parametrize("step", phases.UPDATED)
def test_weights_of_the_trainer_answer_after(seen: Seen, step: str) -> None:
    """Sent as tensors of CUDA by another process, or broadcast, to an engine with dummy weights."""
    phases.need(seen, phases.UPDATED[step])
    assert seen[step] == phases.TOKENS


def test_flush_straight_after_an_answer_happens(seen: Seen) -> None:
    assert seen["straight after"] == phases.FLUSHED


def test_several_answers_to_prompts_at_once_come(seen: Seen) -> None:
    phases.need(seen, "several_answers")
    assert seen["several answers"] == phases.TWO_ANSWERS


def test_running_request_is_aborted(seen: Seen) -> None:
    assert seen["abort"] == "abort"
