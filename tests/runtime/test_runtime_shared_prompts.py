"""Batches of requests that only cache a prompt: as ordinary ones, where SGLang has its faults."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from roll_runtime import shared_prompts


def scheduler(release: str) -> Any:
    """A scheduler's module of a release, patched twice."""

    class ScheduleBatch:
        def __init__(self, *lengths_and_starts: tuple[int, int, int]) -> None:
            self.is_prefill_only = True
            self.reqs = [
                SimpleNamespace(
                    origin_input_ids=[7] * length,
                    logprob_start_len=start,
                    sampling_params=SimpleNamespace(max_new_tokens=new),
                )
                for length, start, new in lengths_and_starts
            ]

        def prepare_for_extend(self) -> tuple[bool, list[int]]:
            return self.is_prefill_only, [one.logprob_start_len for one in self.reqs]

    module: Any = ModuleType("sglang.srt.managers.scheduler")
    module.ScheduleBatch = ScheduleBatch
    shared_prompts.patch_batches(module, release)
    shared_prompts.patch_batches(module, release)
    return module


BATCH = ((8, 8, 0), (8, 7, 16), (5, 2, 0))
"""Length of the prompt, where its log probabilities begin, new tokens."""


@pytest.mark.parametrize(
    ("release", "seen"),
    [
        ("0.4.10.post2", (True, [8, 7, 2])),
        ("0.5.2", (False, [8, 7, 2])),
        ("0.5.4.post2", (False, [7, 7, 2])),
        ("0.5.6.post2", (False, [7, 7, 2])),
        ("0.5.7", (False, [8, 7, 2])),
        ("0.5.9", (False, [8, 7, 2])),
        ("0.5.10.post1", (True, [8, 7, 2])),
    ],
)
def test_batch_is_prepared_as_any_other_where_sglang_has_the_fault(
    release: str, seen: tuple[bool, list[int]]
) -> None:
    assert scheduler(release).ScheduleBatch(*BATCH).prepare_for_extend() == seen


def test_scheduler_without_the_class_is_left_alone() -> None:
    module = ModuleType("sglang.srt.managers.scheduler")
    shared_prompts.patch_batches(module, "0.5.4.post2")
    assert "ScheduleBatch" not in vars(module)
