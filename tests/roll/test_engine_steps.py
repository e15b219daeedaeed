"""ROLL's inference worker: each call of a training cycle, in order; see session_engine.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = pytest.mark.alone_on_gpu

SESSION = "engine"


def test_rolls_modules_are_imported(passes: Callable[[], None]) -> None:
    passes()


def test_ray_starts(passes: Callable[[], None]) -> None:
    passes()


def test_the_cluster_is_made(passes: Callable[[], None]) -> None:
    passes()


def test_the_engine_starts_in_a_ray_actor(passes: Callable[[], None]) -> None:
    passes()


def test_its_memory_is_loaded(passes: Callable[[], None]) -> None:
    passes()


def test_a_bucket_update_arrives(passes: Callable[[], None]) -> None:
    passes()


def test_a_bucket_update_from_expandable_segments_arrives(passes: Callable[[], None]) -> None:
    passes()


def test_offload_update_load(passes: Callable[[], None]) -> None:
    passes()


def test_offload_load_update(passes: Callable[[], None]) -> None:
    passes()


def test_a_broadcast_update_arrives(passes: Callable[[], None]) -> None:
    passes()


def test_the_router_answers(passes: Callable[[], None]) -> None:
    passes()


def test_several_answers_to_one_prompt(passes: Callable[[], None]) -> None:
    passes()


def test_a_request_is_aborted(passes: Callable[[], None]) -> None:
    passes()


def test_the_worker_generates_a_batch(passes: Callable[[], None]) -> None:
    passes()


def test_memory_of_chosen_ranks_is_released(passes: Callable[[], None]) -> None:
    passes()


def test_memory_of_chosen_ranks_is_loaded(passes: Callable[[], None]) -> None:
    passes()


def test_a_batch_with_images(passes: Callable[[], None]) -> None:
    passes()


def test_several_nodes(passes: Callable[[], None]) -> None:
    passes()


def test_offload_update_load_again(passes: Callable[[], None]) -> None:
    passes()


def test_the_actor_ends(passes: Callable[[], None]) -> None:
    passes()


def test_no_process_of_the_engine_is_left(passes: Callable[[], None]) -> None:
    passes()


def test_ray_stops(passes: Callable[[], None]) -> None:
    passes()


def test_no_process_of_ray_is_left(passes: Callable[[], None]) -> None:
    passes()
