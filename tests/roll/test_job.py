"""A whole job of ROLL's RLVR pipeline; see session_job.py."""

from __future__ import annotations

from collections.abc import Callable

SESSION = "job"


def test_a_jobs_modules_are_imported(passes: Callable[[], None]) -> None:
    passes()


def test_a_job_is_configured(passes: Callable[[], None]) -> None:
    passes()


def test_a_job_starts_trainer_engine_and_reward(passes: Callable[[], None]) -> None:
    passes()


def test_a_job_trains_two_steps(passes: Callable[[], None]) -> None:
    passes()


def test_its_rewards_and_gradients_are_numbers(passes: Callable[[], None]) -> None:
    passes()


def test_its_checkpoint_has_new_weights(passes: Callable[[], None]) -> None:
    passes()


def test_the_engine_follows_the_new_weights(passes: Callable[[], None]) -> None:
    passes()


def test_rolls_start_script_ends(passes: Callable[[], None]) -> None:
    passes()


def test_a_jobs_ray_stops(passes: Callable[[], None]) -> None:
    passes()


def test_a_job_leaves_no_process(passes: Callable[[], None]) -> None:
    passes()
