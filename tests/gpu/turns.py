"""Turns on a GPU that several suites share: what measures the memory of the whole GPU runs alone.

Each suite has a turn for each module of tests beside others', and one for all that are marked
`alone_on_gpu`, which come first: whoever waits to be alone has the others wait as well.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from typing import IO

import pytest

from images.export.kit import document

ALONE = "alone_on_gpu"


class Turns:
    """The turns of this suite.

    Args:
        directory: of the locks; None if no other suite is on the GPU.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._turn: IO[bytes] | None = None

    def begin(self, *, alone: bool) -> None:
        """Wait for a turn, unless this suite has one."""
        if self._directory is None or self._turn is not None:
            return
        turn = (self._directory / "turn.lock").open("wb")
        # Whoever waits holds the gate: else a suite that must be alone would wait for ever.
        with (self._directory / "gate.lock").open("wb") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(turn, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._turn = turn

    def end(self) -> None:
        """Let others have their turns."""
        if self._turn is not None:
            self._turn.close()
        self._turn = None


def shared() -> bool:
    """Return whether other suites may be on the GPU."""
    return document.TURNS in os.environ


def mine() -> Turns:
    """Return the turns that the environment names."""
    return Turns(Path(os.environ[document.TURNS]) if shared() else None)


def order(items: list[pytest.Item]) -> None:
    """Put the tests that run alone before the others, in place."""
    items.sort(key=lambda item: not _alone(item))


def protocol(
    turns: Turns, item: pytest.Item, following: pytest.Item | None
) -> Generator[None, object, object]:
    """Run a test within its turn; as the hook `pytest_runtest_protocol`."""
    turns.begin(alone=_alone(item))
    try:
        return (yield)
    finally:
        if following is None or not _same_turn(item, following):
            turns.end()


def explain(report: pytest.TestReport) -> None:
    """Write why a test failed, where suites share a GPU: its machine may go back before the end."""
    if report.failed and shared():
        print(f"\n{report.longreprtext}")


def _alone(item: pytest.Item) -> bool:
    return item.get_closest_marker(ALONE) is not None


def _same_turn(item: pytest.Item, following: pytest.Item) -> bool:
    return _alone(item) == _alone(following) and (_alone(item) or item.path == following.path)
