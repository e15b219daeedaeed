"""Batches of requests that only cache a prompt: as ordinary ones, where SGLang has its faults."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from roll_runtime import shared_prompts


def scheduler(release: str, generates: bool = True, delimiter: int | None = None) -> Any:
    """A scheduler's module of a release, patched twice."""

    class ScheduleBatch:
        def __init__(self, *lengths_and_starts: tuple[int, int, int]) -> None:
            self.is_prefill_only = True
            self.model_config = SimpleNamespace(is_generation=generates)
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
    if release != "0.5.2":
        settings = SimpleNamespace(multi_item_scoring_delimiter=delimiter)
        module.get_global_server_args = lambda: settings
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


LEFT_ALONE = (True, [8, 7, 2])


@pytest.mark.parametrize("release", ["0.5.2", "0.5.4.post2", "0.5.7", "0.5.9"])
def test_batch_of_an_embedding_model_is_left_alone(release: str) -> None:
    """It has nothing to decode, and from 0.5.7 on only the flag keeps it from that."""
    found = scheduler(release, generates=False).ScheduleBatch(*BATCH).prepare_for_extend()
    assert found == LEFT_ALONE


@pytest.mark.parametrize("release", ["0.5.4.post2", "0.5.7", "0.5.9"])
def test_batch_of_an_engine_that_scores_several_items_is_left_alone(release: str) -> None:
    """The flag says that the logits of the delimiters alone are computed."""
    found = scheduler(release, delimiter=0).ScheduleBatch(*BATCH).prepare_for_extend()
    assert found == LEFT_ALONE


def test_scheduler_without_the_class_is_left_alone() -> None:
    module = ModuleType("sglang.srt.managers.scheduler")
    shared_prompts.patch_batches(module, "0.5.4.post2")
    assert "ScheduleBatch" not in vars(module)
