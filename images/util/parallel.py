"""Work on many things at a time, all of it or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

QUESTIONS = 16
"""Requests to one registry at a time that carry no blob."""


def at_once(
    work: Callable[[T], R], items: Iterable[T], threads: int, break_off: Callable[[], None]
) -> list[R]:
    """The results of `work`, in order; the first failure breaks all others off.

    Args:
        work: done for each item.
        items: what is worked on.
        threads: how many at a time.
        break_off: makes calls of `work` that are under way end soon.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="registry") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            break_off()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]
