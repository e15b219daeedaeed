"""ROLL's whole order of calls against the real scheduler, on a CPU.

`cycle.py` is the script that makes them inside the image. It is run once; each test looks at what
one of its phases saw. A phase that kills the scheduler fails them all, with the scheduler's log.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.image import cycle, driver, vllm
from tests.image.box import Box
from tests.image.subject import Subject

SCRIPT = Path(cycle.__file__)
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

#: Releases whose engine was seen to run on a CPU with the script's arguments.
ON_A_CPU = ("0.5.2", "0.5.4.post2", "0.5.5.post3", "0.5.6.post2", "0.5.7", "0.5.12.post1")

_NO_CUDA = (
    "its update_weights_from_tensor moves each tensor to CUDA's current device, whatever the "
    "engine runs on; nor has it the FlattenedTensorBucket that ROLL 8eb27cc2 sends"
)
#: Releases that cannot, and why.
NOT_ON_A_CPU = {"0.4.6.post4": _NO_CUDA, "0.4.10.post2": _NO_CUDA}


@pytest.fixture(scope="module")
def seen(new_box: Box, subject: Subject) -> Iterator[dict[str, Any]]:
    """The observations of each phase."""
    subject.need_engine()
    release = subject.target.sglang
    if release not in ON_A_CPU:
        why = NOT_ON_A_CPU.get(release, "its engine was not tried on a CPU (ON_A_CPU)")
        pytest.skip(f"SGLang {release}: {why}")
    with new_box.started() as started:
        driver.install(started)
        vllm.install(started)
        yield started.ask(SCRIPT.read_text(), "cpu", *PHASES, env=driver.ENV | vllm.ENV)


@pytest.mark.parametrize("step", cycle.UPDATED)
def test_weights_of_the_trainer_answer_after(seen: dict[str, Any], step: str) -> None:
    """Released and resumed with ROLL's tags, also those that this SGLang has not, in any order."""
    assert seen[step] == cycle.TOKENS


def test_prompts_meet_the_keys_and_values_of_old_weights_until_a_flush(
    seen: dict[str, Any],
) -> None:
    """SGLang's prefix cache outlives an update; ROLL flushes it in `load_states`, which follows."""
    assert seen["reused"] > 0
    assert seen["not flushed"] not in (cycle.TOKENS, seen["other weights"])
    assert seen["flushed"] == cycle.TOKENS
    assert seen["after dummy"] != cycle.TOKENS
    assert seen["dummy flushed"] == cycle.TOKENS


def test_flush_straight_after_an_answer_happens(seen: dict[str, Any]) -> None:
    """The scheduler counts the request as running for a moment after its last token is sent."""
    assert seen["straight after"] == cycle.FLUSHED


def test_several_answers_to_prompts_at_once_come_with_log_probabilities(
    seen: dict[str, Any],
) -> None:
    assert seen["several answers"] == cycle.TWO_ANSWERS


def test_running_request_is_aborted(seen: dict[str, Any]) -> None:
    assert seen["abort"] == "abort"
