"""One process measured as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile


@dataclass(frozen=True)
class Run:
    """One process: what it was, wall and CPU seconds, peak memory and sent bytes."""

    what: str
    seconds: float
    cpu: float
    peak: int
    sent: int | None = None

    def row(self) -> str:
        """A line of the table."""
        sent = "" if self.sent is None else f"{self.sent:,}"
        figures = (f"{self.seconds:.2f}", f"{self.cpu:.1f}", f"{self.peak / 1e6:.0f}", sent)
        return f"| {' | '.join((self.what, *figures))} |"


def timed(what: str, command: Sequence[str]) -> tuple[Run, str]:
    """Run a process that must succeed; gives its figures and its output."""
    # The disk of one run must not be busy with what the one before left to be written.
    os.sync()
    begin = time.perf_counter()
    with (
        TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as child,
    ):
        try:
            output = child.stdout.read().decode() if child.stdout else ""
        except BaseException:  # when we are to end, it must not go on until it is done
            child.terminate()
            raise
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode()
    seconds = time.perf_counter() - begin
    if child.returncode:
        sys.exit(f"{what}: {said}")
    return Run(what, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024), output
