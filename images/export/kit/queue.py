"""The order in which the images of a kit are proven, by several threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence


class Queue:
    """Numbers of targets; those that could not begin are taken again while others are proven.

    Args:
        order: the numbers.
        again: seconds after which those that were put back are taken again.
    """

    def __init__(self, order: Sequence[int], again: float = 10.0) -> None:
        self._order = list(order)
        self._todo = list(order)
        self._put_back: list[int] = []
        self._taken = 0
        self._again = again
        self._changed = threading.Condition()

    def take(self) -> int | None:
        """Return the next number; None if none is left.

        Where all that are left were put back, wait: parts may come while others are proven.
        """
        with self._changed:
            while not self._todo and self._put_back and self._taken:
                if not self._changed.wait(self._again):
                    self._take_back()
            if not self._todo:
                return None
            self._taken += 1
            return self._todo.pop(0)

    def put_back(self, number: int) -> None:
        """Keep a number whose bundle is not complete."""
        with self._changed:
            self._put_back.append(number)
            self._end_one()

    def done(self) -> None:
        """Note that a number is done. Time went by, so those that were put back come again."""
        with self._changed:
            self._take_back()
            self._end_one()

    def _take_back(self) -> None:
        self._todo = sorted({*self._todo, *self._put_back}, key=self._order.index)
        self._put_back = []

    def _end_one(self) -> None:
        self._taken -= 1
        self._changed.notify_all()
