"""Programs that end with the work that they were started for.

A thread cannot be ended, and one that waits for a program waits as long as that takes: minutes for
a compiler.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

_GRACE = 5  # seconds to clean up, as mmdebstrap does


class EndedError(Exception):
    """The work was given up; it is of no interest to its caller."""


class Programs:
    """Programs of one piece of work, in any of its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    @contextmanager
    def own(self) -> Iterator[None]:
        """Have what `run` starts in this thread, inside the block, be one of these programs."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def end(self) -> None:
        """End those that run with all that they have started, and start no further one."""
        with self._lock:
            self._ended = True
            running = [process.pid for process in self._running]
        if running:
            _end(running)

    def _run(
        self, command: Sequence[str], options: dict[str, Any]
    ) -> subprocess.CompletedProcess[bytes]:
        with self._lock:
            if self._ended:
                raise EndedError
            process = subprocess.Popen(command, **options)
            self._running.add(process)
        try:
            with process:
                output, errors = process.communicate()
        finally:
            with self._lock:
                self._running.remove(process)
        if self._ended:
            raise EndedError
        return subprocess.CompletedProcess(command, process.returncode, output, errors)


_current: ContextVar[Programs | None] = ContextVar("programs", default=None)


def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a program as `subprocess.run` does without `check`, as one of the thread's `Programs`.

    Args:
        command: the program and its arguments.
        options: those of `subprocess.Popen`.

    Raises:
        EndedError: the programs were ended.
        OSError: it cannot be started.
    """
    programs = _current.get()
    if programs is None:
        return subprocess.run(command, check=False, **options)
    return programs._run(command, options)


def _end(pids: Sequence[int]) -> None:
    import psutil

    everything: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            everything += [process, *process.children(recursive=True)]
    # A user's own mmdebstrap starts processes of other ids, which end with their namespace.
    for process in everything:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.terminate()
    for process in psutil.wait_procs(everything, _GRACE)[1]:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
