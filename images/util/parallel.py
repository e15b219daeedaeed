"""A parallel map that fails as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_all(
    work: Callable[[T], R], items: Iterable[T], threads: int, cancel: Callable[[], None]
) -> list[R]:
    """Return the results of `work`, in order; the first failure cancels all others.

    Args:
        work: called for each item.
        items: the items.
        threads: how many at a time.
        cancel: makes running calls of `work` end soon.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="registry") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]
