"""ROLL's whole order of calls against the real scheduler, on a CPU.

`cycle.py` is the script that makes them inside the image. It is run once; each test looks at what
one of its phases saw. A phase that kills the scheduler fails them all, with the scheduler's log.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from packaging.version import Version

from tests.image import driver, phases, vllm
from tests.image.box import Box
from tests.image.phases import Seen
from tests.image.subject import Subject

PHASES = (
    "dummy_generation",
    "colocated",
    "stopped_between",
    "never_released",
    "broadcast",
    "prefix_cache",
    "straight_after",
    "several_answers",
    "abort",
)

#: The first release whose engine runs on a CPU with the script's arguments.
ON_A_CPU = Version("0.5.2")

_NO_CUDA = (
    "its update_weights_from_tensor moves each tensor to CUDA's current device, whatever the "
    "engine runs on; nor has it the FlattenedTensorBucket that ROLL 8eb27cc2 sends"
)
_NO_DEVICE = dict.fromkeys(
    ("colocated", "stopped_between", "never_released"), "a release waits for CUDA's device"
)
#: Phases that a release does not get through on a CPU, and why.
NOT_ON_A_CPU = {"0.5.23": _NO_DEVICE}


@pytest.fixture(scope="module")
def seen(new_box: Box, subject: Subject) -> Iterator[Seen]:
    """The observations of each phase, and the phases that are skipped."""
    subject.need_engine()
    release = subject.target.sglang
    if Version(release) < ON_A_CPU:
        pytest.skip(f"SGLang {release}: {_NO_CUDA}")
    skipped = {**phases.UNFIXED.get(release, {}), **NOT_ON_A_CPU.get(release, {})}
    with new_box.started() as started:
        driver.install(started)
        vllm.install(started)
        yield phases.run(started, "cpu", PHASES, skipped, driver.ENV | vllm.ENV)


@pytest.mark.parametrize("step", phases.UPDATED)
def test_weights_of_the_trainer_answer_after(seen: Seen, step: str) -> None:
    """Released and resumed with ROLL's tags, also those that this SGLang has not, in any order."""
    phases.need(seen, phases.UPDATED[step])
    assert seen[step] == phases.TOKENS


def test_prompts_meet_the_keys_and_values_of_old_weights_until_a_flush(
    seen: Seen,
) -> None:
    """SGLang's prefix cache outlives an update; ROLL flushes it in `load_states`, which follows."""
    assert seen["reused"] > 0
    assert seen["not flushed"] not in (phases.TOKENS, seen["other weights"])
    assert seen["flushed"] == phases.TOKENS
    assert seen["after dummy"] != phases.TOKENS
    assert seen["dummy flushed"] == phases.TOKENS


def test_flush_straight_after_an_answer_happens(seen: Seen) -> None:
    """The scheduler counts the request as running for a moment after its last token is sent."""
    assert seen["straight after"] == phases.FLUSHED


def test_several_answers_to_prompts_at_once_come_with_log_probabilities(
    seen: Seen,
) -> None:
    phases.need(seen, "several_answers")
    assert seen["several answers"] == phases.TWO_ANSWERS


def test_running_request_is_aborted(seen: Seen) -> None:
    assert seen["abort"] == "abort"
