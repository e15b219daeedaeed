"""One process measured as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

_INTERVAL = 0.2


@dataclass(frozen=True)
class Run:
    """One process: what it was, wall and CPU seconds, peak memory and sent bytes.

    `together` is the peak of what the process, all its descendants and the daemons that worked for
    it used at a time, in bytes: anonymous and shared memory, without mapped files. It is sampled
    on request only.
    """

    what: str
    seconds: float
    cpu: float
    peak: int
    sent: int | None = None
    together: int = 0

    def row(self) -> str:
        """Return the line of the table."""
        sent = "" if self.sent is None else f"{self.sent:,}"
        figures = (f"{self.seconds:.2f}", f"{self.cpu:.1f}", f"{self.peak / 1e6:.0f}", sent)
        return f"| {' | '.join((self.what, *figures))} |"


def timed(
    what: str, command: Sequence[str], daemons: Sequence[int] | None = None
) -> tuple[Run, str]:
    """Run a process that must succeed; return its figures and its output.

    Args:
        what: its name in the table.
        command: the process.
        daemons: process ids of those that work for it; None to sample no memory.
    """
    # The disk of one run must not be busy with what the one before left to be written.
    os.sync()
    begin = time.perf_counter()
    with (
        TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as child,
    ):
        memory = None if daemons is None else _Memory([child.pid, *daemons])
        try:
            output = child.stdout.read().decode() if child.stdout else ""
        except BaseException:  # the process must not outlive the benchmark
            child.terminate()
            raise
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text = errors.read().decode()
    seconds = time.perf_counter() - begin
    if child.returncode:
        sys.exit(f"{what}: {text}")
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    return Run(what, seconds, cpu, peak, together=memory.end() if memory else 0), output


class _Memory:
    """Samples the memory of processes with all their descendants."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = roots
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def end(self) -> int:
        """Stop, and return the highest sum, in bytes."""
        self._ended.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while True:
            pids = {pid for root in self._roots for pid in family(root)}
            self._peak = max(self._peak, sum(map(_resident, pids)))
            if self._ended.wait(_INTERVAL):
                return


def cpu_seconds(roots: Sequence[int]) -> float:
    """Return what processes and all their descendants have used, with those that have ended."""
    ticks = 0
    for pid in {pid for root in roots for pid in family(root)}:
        with suppress(OSError):
            # The name, in brackets, may have spaces.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """Return a process and all its descendants."""
    yield pid
    with suppress(OSError):  # it may end at any moment
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def _resident(pid: int) -> int:
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        found = [line.split() for line in status if line.startswith(("RssAnon", "RssShmem"))]
        return sum(int(words[1]) * 1024 for words in found)
    return 0
