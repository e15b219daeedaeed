"""Release and resume: SGLang's real handlers of each version, with the tags that ROLL sends."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from runtime_support import HandlerCalls, RunHandlers

from roll_runtime import drained, occupation, versions

WEIGHTS, KV_CACHE, CUDA_GRAPH = "weights", "kv_cache", "cuda_graph"
ROLLS_TAGS = [WEIGHTS, KV_CACHE, CUDA_GRAPH]


def known(version: str) -> set[str]:
    """What upstream releases when no tags are given."""
    if versions.in_range(version, None, "0.4.10"):
        return {"everything"}
    return {WEIGHTS, KV_CACHE} | (
        set() if versions.in_range(version, None, "0.5.4") else {CUDA_GRAPH}
    )


CYCLES: dict[str, HandlerCalls] = {
    "a colocated step": [("release", None), ("resume", ROLLS_TAGS)],
    "weights before the rest": [
        ("release", None),
        ("resume", [WEIGHTS]),
        ("resume", [KV_CACHE, CUDA_GRAPH]),
    ],
    "released again with only the weights back": [
        ("release", None),
        ("resume", [WEIGHTS]),
        ("release", None),
        ("resume", ROLLS_TAGS),
    ],
    "released twice": [("release", None), ("release", ROLLS_TAGS), ("resume", ROLLS_TAGS)],
    "resumed twice": [("release", []), ("resume", ROLLS_TAGS), ("resume", ROLLS_TAGS)],
    "never released": [("resume", ROLLS_TAGS), ("resume", None), ("resume", [])],
    "a tag that nobody has": [("release", ["activations"]), ("resume", ["activations"])],
    "the same tag twice": [("release", ROLLS_TAGS * 2), ("resume", ROLLS_TAGS * 2)],
}


@pytest.mark.parametrize("cycle", CYCLES)
def test_handlers_live_through(handle: RunHandlers, version: str, cycle: str) -> None:
    """Each call is answered as upstream answers, and at the end nothing is released."""
    result = handle(version, CYCLES[cycle])
    assert result["error"] is None, result["trace"]
    answers = {"release": "ReleaseMemory", "resume": "ResumeMemory"}
    wanted = [f"{answers[action]}OccupationReqOutput" for action, _ in CYCLES[cycle]]
    assert result["answers"] == wanted
    assert result["released"] == result["offload_tags"] == []


def test_all_that_upstream_has_is_released_and_resumed(handle: RunHandlers, version: str) -> None:
    result = handle(version, CYCLES["a colocated step"])
    assert set(result["calls"]) == {
        f"{call} {tag}" for call in ("pause", "resume") for tag in known(version)
    }


def test_dropped_tags_are_logged_once(handle: RunHandlers, version: str) -> None:
    result = handle(version, CYCLES["a colocated step"] * 3)
    unknown = "the tag cuda_graph is ignored: SGLang"
    expected = int(CUDA_GRAPH not in known(version) and "everything" not in known(version))
    assert result["log"].count(unknown) == expected, result["log"]


#: What kills upstream's handlers: the fault that each cycle is for.
FATAL = {
    "0.4.10.post2": {"resumed twice", "released twice"},
    "0.5.2": {"a colocated step", "weights before the rest", "never released"},
    "0.5.7": {"never released", "resumed twice", "released twice"},
    "0.5.23": {"never released", "resumed twice", "released twice"},
}


@pytest.mark.parametrize(
    ("old", "cycle"), [(old, cycle) for old, cycles in FATAL.items() for cycle in sorted(cycles)]
)
def test_unpatched_handlers_die(handle: RunHandlers, old: str, cycle: str) -> None:
    """Upstream alone: what the patch is for. Keeps the tests above honest."""
    result = handle(old, CYCLES[cycle], ROLL_RUNTIME_AUTOLOAD="0")
    assert result["error"] is not None


class FlushCacheReqInput:
    """A flush, as the scheduler tells it: by its class."""


class ReleaseMemoryOccupationReqInput:
    """A release."""


def test_flush_and_release_wait_some_turns_and_nothing_overtakes_them() -> None:
    line, flush, release = drained.Line(), FlushCacheReqInput(), ReleaseMemoryOccupationReqInput()
    assert line.due(["a", flush, "b"]) == ["a"]
    assert line.due(["c"]) == []
    assert line.due([release]) == []
    assert line.due(["d"]) == [flush, "b", "c"]
    assert [line.due([]) for _ in range(drained.TURNS)] == [[], [], [release, "d"]]
    assert line.due(["e"]) == ["e"]


def test_wrapped_flush_waits_as_well() -> None:
    """With several tokenizers, SGLang wraps each request in a record that names the sender."""
    assert drained.needs_idle(SimpleNamespace(obj=FlushCacheReqInput()))
    assert not drained.needs_idle(SimpleNamespace(obj="a"))


def test_scheduler_takes_what_is_due_in_each_turn() -> None:
    module: Any = ModuleType("sglang.srt.managers.scheduler")

    class Scheduler:
        taken: list[Any]

        def process_input_requests(self, requests: list[Any]) -> None:
            self.taken = requests

    module.Scheduler = Scheduler
    drained.patch_turns(module)
    drained.patch_turns(module)
    scheduler, flush = Scheduler(), FlushCacheReqInput()
    taken = []
    for arrived in (["a", flush], None, [], []):
        scheduler.process_input_requests(arrived)  # type: ignore[arg-type]
        taken.append(scheduler.taken)
    assert taken == [["a"], [], [], [flush]]


def test_module_without_handlers_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    module = ModuleType("sglang.srt.managers.scheduler")
    caplog.set_level(logging.DEBUG)
    occupation.patch_occupation(module, "9.9.9")
    drained.patch_turns(module)
    assert sys.modules.get("sglang.srt.constants") is None
    assert caplog.text == ""
