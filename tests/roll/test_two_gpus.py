"""ROLL on two GPUs of one host; see session_two_gpus.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = pytest.mark.alone_on_gpu

SESSION = "two_gpus"


@pytest.fixture(autouse=True)
def two_gpus(gpus: int) -> None:
    """Skips where one engine cannot have two, and two engines cannot have one each."""
    if gpus < 2:
        pytest.skip(f"two GPUs of one host are needed, and {gpus} is here")


def test_multicast_is_off_before_all(passes: Callable[[], None]) -> None:
    passes()


def test_modules_are_imported(passes: Callable[[], None]) -> None:
    passes()


def test_ray_starts(passes: Callable[[], None]) -> None:
    passes()


def test_trainers_and_clusters_are_made(passes: Callable[[], None]) -> None:
    passes()


def test_multicast_is_off_in_rolls_workers(passes: Callable[[], None]) -> None:
    passes()


def test_two_trainers_add_up(passes: Callable[[], None]) -> None:
    passes()


def test_one_engine_starts_on_two_gpus(passes: Callable[[], None]) -> None:
    passes()


def test_two_engines_start_on_a_gpu_each(passes: Callable[[], None]) -> None:
    passes()


def test_multicast_is_off_in_the_schedulers(passes: Callable[[], None]) -> None:
    passes()


def test_memory_is_loaded_by_one_engine(passes: Callable[[], None]) -> None:
    passes()


def test_buckets_reach_one_engine(passes: Callable[[], None]) -> None:
    passes()


def test_offload_update_load_of_one_engine(passes: Callable[[], None]) -> None:
    passes()


def test_offload_load_update_of_one_engine(passes: Callable[[], None]) -> None:
    passes()


def test_a_broadcast_reaches_both_ranks(passes: Callable[[], None]) -> None:
    passes()


def test_memory_is_loaded_by_two_engines(passes: Callable[[], None]) -> None:
    passes()


def test_buckets_reach_two_engines(passes: Callable[[], None]) -> None:
    passes()


def test_offload_update_load_of_two_engines(passes: Callable[[], None]) -> None:
    passes()


def test_offload_load_update_of_two_engines(passes: Callable[[], None]) -> None:
    passes()


def test_requests_are_spread_over_two_engines(passes: Callable[[], None]) -> None:
    passes()


def test_a_bucket_and_nccl_reach_two_engines(passes: Callable[[], None]) -> None:
    passes()


def test_nccl_reaches_an_engine_on_another_gpu(passes: Callable[[], None]) -> None:
    passes()


def test_the_engines_end(passes: Callable[[], None]) -> None:
    passes()


def test_no_engine_is_left(passes: Callable[[], None]) -> None:
    passes()


def test_ray_stops(passes: Callable[[], None]) -> None:
    passes()


def test_no_ray_is_left(passes: Callable[[], None]) -> None:
    passes()
