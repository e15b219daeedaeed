"""Named steps, one after another, in one process: each outcome is printed and kept as it comes.

ROLL waits for ever when an actor dies, so a step has a limit, and the engine's processes are
watched while one runs. After a vital step failed, the later ones are not tried.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn

import kit_processes

PASSED, FAILED, SKIPPED, NOT_REACHED, RUNNING = (
    "passed",
    "failed",
    "skipped",
    "not reached",
    "running",
)
_POLL = 2.0  # seconds between two looks at the engine's processes
_AGAIN = 15.0  # seconds after which a step that goes on is interrupted again
_DEAD_ACTOR = ("RayActorError", "ActorDiedError", "ActorUnavailableError", "GetTimeoutError")


class OverdueError(Exception):
    """A step took longer than it may."""


class EngineDiedError(Exception):
    """The engine's scheduler ended while a step ran."""


class SkippedError(Exception):
    """What a step tries cannot be tried here; the text says why."""


class Steps:
    """The steps of one session.

    Args:
        out: where `steps.jsonl` and `errors.log` go; the last line of a step's name counts.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._stopped_by = ""
        self._failed: list[str] = []
        out.mkdir(parents=True, exist_ok=True)

    @property
    def stopped(self) -> bool:
        """Whether a failure ended the session."""
        return bool(self._stopped_by)

    @property
    def failed(self) -> int:
        """How many steps failed."""
        return len(self._failed)

    @contextmanager
    def group(self, after: str) -> Iterator[None]:
        """Steps that a failure ends alone: what is behind the block is still tried.

        Args:
            after: the step that they need, if any; they are not tried if it failed.
        """
        before = self._stopped_by
        if after in self._failed:
            self._stopped_by = self._stopped_by or after
        try:
            yield
        finally:
            self._stopped_by = before

    def run(
        self,
        name: str,
        action: Callable[[], object],
        *,
        limit: float = 120.0,
        vital: bool = False,
        always: bool = False,
        watched: bool = True,
        fault: tuple[str, str] = ("", ""),
    ) -> bool:
        """Try one step; gives whether it passed.

        Args:
            name: as the test outside is called.
            action: what to do; what it gives is printed. An exception is a failure.
            limit: seconds that it may take.
            vital: whether nothing can be tried after its failure.
            always: try it although an earlier vital step failed.
            watched: fail at once when the engine ends meanwhile; not where that is wanted.
            fault: a fault of ROLL's own: the text of the error that it shows itself by, and the
                reason to give. A step that ends so is skipped, not failed.
        """
        if self._stopped_by and not always:
            self._keep(name, NOT_REACHED, 0.0, f"{self._stopped_by} failed")
            return False
        self._keep(name, RUNNING, 0.0, f"for {limit:.0f} s at most")
        start = time.monotonic()
        try:
            with _limited(limit), _watched() if watched else nullcontext():
                what = action()
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt) and _why
            cause = _why[-1] if interrupted else error
            return self._end(name, cause, time.monotonic() - start, vital=vital, fault=fault)
        finally:
            _why.clear()
        self._keep(name, PASSED, time.monotonic() - start, "" if what is None else str(what))
        return True

    def skip(self, name: str, reason: str) -> None:
        """Note a step that is not tried, with the reason."""
        self._keep(name, SKIPPED, 0.0, reason)

    def _end(
        self,
        name: str,
        error: BaseException,
        seconds: float,
        *,
        vital: bool,
        fault: tuple[str, str],
    ) -> bool:
        text = "".join(traceback.format_exception(error))
        if isinstance(error, SkippedError):
            self._keep(name, SKIPPED, seconds, str(error))
            return True
        if fault[0] and fault[0] in text:
            self._keep(name, SKIPPED, seconds, fault[1])
            return False
        with (self._out / "errors.log").open("a") as log:
            log.write(f"===== {name}\n{text}\n")
        self._failed.append(name)
        dead = type(error).__name__ in _DEAD_ACTOR
        if vital or dead or isinstance(error, (OverdueError, EngineDiedError)):
            self._stopped_by = self._stopped_by or name
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        self._keep(name, FAILED, seconds, f"{type(error).__name__}: {lines[-1][:400]}")
        if isinstance(error, KeyboardInterrupt):
            raise error
        return False

    def _keep(self, name: str, outcome: str, seconds: float, what: str) -> None:
        line = {"step": name, "outcome": outcome, "seconds": round(seconds, 1), "what": what}
        with (self._out / "steps.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(f"\n[step] {outcome:<11} {name} {seconds:.1f} s  {what}", flush=True)


def in_ray(steps: Steps, session: Callable[[], object], nothing_left: str) -> int:
    """Run a session, stop Ray whatever happens, and return the exit code.

    Args:
        steps: the session's.
        session: runs them.
        nothing_left: the name of the last step, which fails if a process of Ray is left.
    """
    try:
        session()
    finally:
        steps.run("ray_stops", kit_processes.stop_ray, always=True, watched=False)
        steps.run(nothing_left, kit_processes.need_no_ray, always=True, watched=False)
    return int(steps.failed > 0)


def leave(code: int) -> NoReturn:
    """End the process now: at a driver's regular end Ray waits a minute for a cluster that is
    gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Interrupt the main thread when the time is over.

    By KeyboardInterrupt: Ray's waits swallow what else a signal's handler raises.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if _died.is_set():
            what = "the engine's scheduler ended; its traceback is among the logs"
            _why.append(EngineDiedError(what))
        else:
            _why.append(OverdueError(f"did not end within {seconds:.0f} s"))
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    start = time.monotonic()
    try:
        yield
    finally:
        # Steps may lie in a step: the outer one's limit goes on.
        rest = max(left - (time.monotonic() - start), 0.1) if left else 0
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, rest, _AGAIN if rest else 0)


_died = threading.Event()
_why: list[Exception] = []
"""What the interrupt of the running step was for."""


@contextmanager
def _watched() -> Iterator[None]:
    """Interrupt the step when a scheduler of an engine ends that it has seen running."""
    over = threading.Event()

    def watch(before: set[int]) -> None:
        while not over.wait(_POLL):
            now = kit_processes.schedulers()
            if before - now and not over.is_set():
                _died.set()
                os.kill(os.getpid(), signal.SIGALRM)
                over.wait(_AGAIN)
            before = before | now

    thread = threading.Thread(target=watch, args=(kit_processes.schedulers(),), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _died.clear()
