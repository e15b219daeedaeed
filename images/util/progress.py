"""Progress of a build: bars with bytes on a terminal, plain lines elsewhere.

It is written to standard error. Stages are context managers that time themselves.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from images import printable
from images.util import output

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import TaskID

_QUIET = 10.0  # seconds between two plain lines of one stage


class Meter(Protocol):
    """The progress of one stage."""

    def advance(self, amount: int) -> None:
        """Count `amount` more bytes as done; negative if some must be done again."""

    def log(self, line: str) -> None:
        """Log a line."""

    def busy(self, doing: str) -> AbstractContextManager[None]:
        """Show an activity as long as the context lasts: not all work counts in bytes."""

    def end(self) -> None:
        """End the stage and record its time; a second call does nothing."""


class Progress:
    """The stages of one command; they may overlap.

    Attributes:
        seconds: of each stage that has ended, in order.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bars = _Bars(self._stream) if self._stream and _takes_bars(self._stream) else None
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time a stage that shows nothing while it runs."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._note(name, begin)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Meter]:
        """Time and show a stage of `total` bytes; it ends with the context, or by `end`."""
        begin = time.monotonic()

        def note() -> None:
            self._note(name, begin)

        meter: Meter = (
            self._bars.start(name, total, note)
            if self._bars
            else _Lines(self._stream, name, total, note)
        )
        try:
            yield meter
        finally:
            meter.end()

    def _note(self, name: str, begin: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begin


def _takes_bars(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


class _Busy:
    """The activities of a stage, the oldest first."""

    def __init__(self) -> None:
        self._doing: dict[object, str] = {}

    @contextmanager
    def __call__(self, doing: str) -> Iterator[None]:
        mark = object()
        self._doing[mark] = printable.lines(doing)
        try:
            yield
        finally:
            del self._doing[mark]

    def __str__(self) -> str:
        return ", ".join(self._doing.copy().values())


class _Lines:
    """Progress as lines, for logs."""

    def __init__(
        self, stream: TextIO | None, name: str, total: int, note: Callable[[], None]
    ) -> None:
        self._stream, self._name, self._total, self._note = stream, name, total, note
        self._busy = _Busy()
        self._done = 0
        self._begin = self._last = time.monotonic()
        self._lock = threading.Lock()
        self._ended = False

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now - self._last >= _QUIET:
                self._last = now
                at = f"; {self._busy}" if str(self._busy) else ""
                self.log(f"{self._name}: {size(self._done)} of {size(self._total)}{at}")

    def log(self, line: str) -> None:
        output.write_line(self._stream, line)

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        # After the last byte no other line would be logged during the activity.
        if self._done >= self._total:
            self.log(f"{self._name}: {doing}")
        with self._busy(doing):
            yield

    def end(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._note()
        seconds = time.monotonic() - self._begin
        self.log(f"{self._name}: {size(self._done)} in {seconds:.1f} s")


class _Bars:
    """One live display for all stages: a terminal cannot show two."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._running = 0
        self.display: Display | None = None

    def start(self, name: str, total: int, note: Callable[[], None]) -> _Bar:
        with self._lock:
            self._running += 1
            if self.display is None:
                self.display = _display(self._stream)
                self.display.start()
            busy = _Busy()
            task = self.display.add_task(name, total=total, busy=busy)
            return _Bar(self, self.display, task, busy, note)

    def ended(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._running and self.display is not None:
                self.display.stop()
                self.display = None


class _Bar:
    def __init__(
        self, bars: _Bars, display: Display, task: TaskID, busy: _Busy, note: Callable[[], None]
    ) -> None:
        self._bars, self._display, self._task, self._note = bars, display, task, note
        self.busy = busy
        self._lock = threading.Lock()
        self._ended = False

    def advance(self, amount: int) -> None:
        self._display.advance(self._task, amount)

    def log(self, line: str) -> None:
        self._display.console.print(printable.lines(line), highlight=False, markup=False)

    def end(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._note()
        self._display.stop_task(self._task)
        self._bars.ended()


def _display(stream: TextIO) -> Display:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Live
    from rich.table import Column

    # The other columns fit into 80 characters; the activity gets the rest of the line.
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(bar_width=12),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        TextColumn(
            "{task.fields[busy]}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
    )
    return Live(*columns, console=Console(file=stream), expand=True)


def size(amount: int) -> str:
    """Return a size for people: decimal units, three digits."""
    value = float(amount)
    for unit in ("B", "kB", "MB"):
        if abs(value) < 999.5:
            return f"{value:.3g} {unit}" if unit != "B" else f"{amount} B"
        value /= 1000
    return f"{value:.2f} GB"
