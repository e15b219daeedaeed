"""Stages of a run that are programs of their own: each ends with the run, or at its time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from images.util import atomic_file, output

_GRACE = 20.0
"""Seconds in which a program that was interrupted cleans up."""

_POLL = 0.5
"""Seconds after which the time that is left is looked at again: another thread may end it."""


class Clock:
    """The time that a run may take.

    Args:
        limit: in seconds; None for any time.
    """

    def __init__(self, limit: float | None) -> None:
        self._begin = time.monotonic()
        self._end = None if limit is None else self._begin + limit

    def message(self, text: str) -> None:
        """Report what begins or ended now, with the seconds since the run began."""
        output.message(f"{time.monotonic() - self._begin:5.0f} s  {text}")

    @property
    def left(self) -> float | None:
        """The seconds that are left, None for any time."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def end(self) -> None:
        """End the time now."""
        self._end = time.monotonic()


@dataclass
class Measured:
    """Seconds of the stages that ran to their end, in a file.

    Attributes:
        path: the file.
        seconds: the largest by stage.
    """

    path: Path
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Measured:
        """Return what earlier runs measured; nothing if the file is missing or damaged."""
        with suppress(OSError, ValueError, AttributeError, TypeError):
            found = json.loads(path.read_bytes())
            return cls(path, {str(stage): float(spent) for stage, spent in found.items()})
        return cls(path)

    def add(self, stage: str, seconds: float) -> None:
        """Keep how long a stage took, if none of its kind took longer."""
        self.seconds[stage] = max(seconds, self.seconds.get(stage, 0.0))
        atomic_file.write_text(self.path, json.dumps(self.seconds))


def run(
    command: Sequence[str], log: Path, clock: Clock, *, cwd: Path, env: Mapping[str, str]
) -> int | None:
    """Run a program and return its exit code; None if the time ended first.

    It ends with this process, even if that is killed: two suites on one GPU disturb each other.

    Args:
        command: the program and its arguments.
        log: the file that its output is added to.
        clock: the time that is left.
        cwd: its working directory.
        env: its environment.
    """
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is passed on once, not twice
        )
        try:
            return _wait(process, clock)
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], clock: Clock) -> int | None:
    while (left := clock.left) is None or left > 0:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_POLL if left is None else min(left, _POLL))
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a program that still runs, and kill what is left of its process group."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
