"""Programs that end with the work that they were started for.

A thread cannot be ended, and one that waits for a program waits as long as that takes: minutes for
a compiler. The terminal's Ctrl-C is kept from the programs: it would have mmdebstrap clean up, and
the signal that follows from here would end its cleaning. They are of this process's group, so that
what ends all of that, such as SIGKILL, ends them as well.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil

_GRACE = 20  # seconds that programs get to clean up: mmdebstrap removes its root
_LOOK = 0.02  # seconds between two looks whether they have ended


class EndedError(Exception):
    """The work was given up; it is of no interest to its caller."""


class Programs:
    """Programs of one piece of work, in any of its threads."""

    def __init__(self) -> None:
        import psutil  # here, so that its absence is reported before there is anything to end

        self._process = psutil.Process
        self._lock = threading.Lock()
        self._running: set[psutil.Process] = set()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the work was given up."""
        return self._ended

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
            running = list(self._running)
        if running:
            _end(running)

    def _run(
        self, command: Sequence[str], options: dict[str, Any]
    ) -> subprocess.CompletedProcess[bytes]:
        with self._lock:
            if self._ended:
                raise EndedError
            process = _without_interrupts(command, options)
            known = self._process(process.pid)
            self._running.add(known)
        try:
            with process:
                output, errors = process.communicate()
        finally:
            with self._lock:
                self._running.remove(known)
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


def _without_interrupts(command: Sequence[str], options: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a program with SIGINT blocked; what it starts inherits that, unless a shell ends it."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end(running: Sequence[psutil.Process]) -> None:
    import psutil

    everything = list(running)
    for process in running:
        with suppress(psutil.Error):  # gone, or /proc hides what others run
            everything += process.children(recursive=True)
    for process in everything:
        with suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + _GRACE
    while (left := [one for one in everything if _runs(one)]) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    for process in left:
        with suppress(psutil.Error):
            process.kill()


def _runs(process: psutil.Process) -> bool:
    """Return whether it has not ended; a zombie has, whether or not its parent asks for it."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's, where /proc hides those
        return True
