"""The retry policy: attempts and delays."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from images.http.retry import RETRYABLE_STATUSES, Policy, retry_after


def test_delays_double_up_to_the_maximum() -> None:
    policy = Policy(base_delay=1, max_delay=10)
    assert [policy.delay(n, chance=lambda: 1.0) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_half_of_a_delay_is_random() -> None:
    policy = Policy(base_delay=4, max_delay=100)
    assert policy.delay(1, chance=lambda: 0.0) == 2
    assert policy.delay(1, chance=lambda: 0.5) == 3
    assert len({policy.delay(1) for _ in range(20)}) > 1


@pytest.mark.parametrize(("asked", "least"), [(0, 0), (7, 7), (10_000, 300)])
def test_retry_after_is_waited_in_full_up_to_the_maximum(asked: float, least: float) -> None:
    policy = Policy(base_delay=1, max_retry_after=300)
    assert least < policy.delay(1, asked) <= least + 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("0", 0), ("12", 12), (" 3 ", 3), ("soon", None), ("-5", None), ("", None)],
)
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    seconds = retry_after(formatdate(time.time() + 60, usegmt=True))
    assert seconds is not None
    assert 50 < seconds <= 61
    assert retry_after(formatdate(time.time() - 60, usegmt=True)) == 0


def test_final_statuses_are_not_retried() -> None:
    assert not RETRYABLE_STATUSES & {200, 201, 202, 400, 401, 403, 404, 405, 413, 416, 501}
