"""The policy of attempts and pauses."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from images.http.retry import PASSING, Policy, retry_after


def test_pauses_double_up_to_the_longest() -> None:
    policy = Policy(first=1, longest=10)
    assert [policy.pause(n, chance=lambda: 1.0) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_half_of_a_pause_is_by_chance() -> None:
    policy = Policy(first=4, longest=100)
    assert policy.pause(1, chance=lambda: 0.0) == 2
    assert policy.pause(1, chance=lambda: 0.5) == 3
    assert len({policy.pause(1) for _ in range(20)}) > 1


@pytest.mark.parametrize(("asked", "least"), [(0, 0), (7, 7), (10_000, 300)])
def test_what_a_server_asks_for_is_waited_for(asked: float, least: float) -> None:
    policy = Policy(first=1, patience=300)
    assert least < policy.pause(1, asked) <= least + 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("0", 0), ("12", 12), (" 3 ", 3), ("soon", None), ("-5", None), ("", None)],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    told = retry_after(formatdate(time.time() + 60, usegmt=True))
    assert told is not None
    assert 50 < told <= 61
    assert retry_after(formatdate(time.time() - 60, usegmt=True)) == 0


def test_only_what_may_pass_is_tried_again() -> None:
    assert not PASSING & {200, 201, 202, 400, 401, 403, 404, 405, 413, 416, 501}
