"""Programs that are ended with the work that waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from images.repository import ROOT
from images.util import programs
from images.util.programs import EndedError, Programs
from tests.unit.waiting import wait_until

WAIT = 30  # seconds that nothing here needs
ALL_WITH_ONE_PIPE = "sleep 600 & echo $! > $0.new; mv $0.new $0; wait"
IN_A_SESSION_OF_ITS_OWN = "setsid --wait sh -c 'echo $$ > $0.new; mv $0.new $0; sleep 600' $0"
# What cleans up, as mmdebstrap does: a second signal would end its cleaning.
CLEANS_UP = """
import os, signal, sys
asked = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: asked.append(number))
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while signal.SIGTERM not in asked:
    signal.sigtimedwait([], 0.1)
with open(sys.argv[1] + ".asked", "w") as file:
    print(*asked, file=file)
"""
DEAF = "trap '' TERM; echo $$ > $0.new; mv $0.new $0; while :; do sleep 600; done"


class Waiting:
    """A thread that waits for a program."""

    def __init__(self, own: Programs, script: str, started: Path) -> None:
        self.ended: list[BaseException] = []
        self._own, self._command = own, ["sh", "-c", script, str(started)]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_until(started.exists)
        self.process = psutil.Process(int(started.read_text()))

    def _run(self) -> None:
        try:
            with self._own.own():
                programs.run(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except EndedError as error:
            self.ended.append(error)

    def has_ended(self) -> bool:
        self._thread.join(WAIT)
        return not self._thread.is_alive() and len(self.ended) == 1


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("script", [ALL_WITH_ONE_PIPE, IN_A_SESSION_OF_ITS_OWN])
def test_programs_end_with_all_that_they_started(tmp_path: Path, script: str) -> None:
    own = Programs()
    waiting = Waiting(own, script, tmp_path / "started")
    own.end()
    assert waiting.has_ended()
    wait_until(lambda: not runs(waiting.process))


def test_program_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_GRACE", 0.1)
    own = Programs()
    waiting = Waiting(own, DEAF, tmp_path / "started")
    own.end()
    assert waiting.has_ended()


SIGNALLED = """
import signal, sys, threading
from images.util import interrupts, programs
signal.signal(signal.SIGINT, signal.SIG_DFL)  # pytest may be started to ignore it
own = programs.Programs()
def work():
    with own.own():
        programs.run([sys.executable, "-c", *sys.argv[1:]])
interrupts.handle()
thread = threading.Thread(target=work)
thread.start()
try:
    thread.join()
finally:
    own.end()
"""


def test_programs_get_one_signal_at_an_interrupt(tmp_path: Path) -> None:
    """The terminal's Ctrl-C is sent to the whole group."""
    started = tmp_path / "started"
    command = [sys.executable, "-c", SIGNALLED, CLEANS_UP, str(started)]
    with subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL
    ) as asked:
        wait_until(started.exists)
        program = psutil.Process(int(started.read_text()))
        os.killpg(asked.pid, signal.SIGINT)
        try:
            asked.wait(WAIT)
        finally:
            asked.kill()
    assert asked.returncode == -signal.SIGINT  # KeyboardInterrupt
    assert not runs(program)
    assert Path(f"{started}.asked").read_text() == f"{int(signal.SIGTERM)}\n"


def test_other_work_goes_on(tmp_path: Path) -> None:
    mine, other = Programs(), Programs()
    waiting = Waiting(mine, ALL_WITH_ONE_PIPE, tmp_path / "started")
    other.end()
    assert waiting.process.is_running()
    mine.end()
    assert waiting.has_ended()


def test_nothing_is_started_after_the_end(tmp_path: Path) -> None:
    own = Programs()
    own.end()
    with own.own(), pytest.raises(EndedError):
        programs.run(["touch", str(tmp_path / "file")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("own", [True, False])
def test_result_is_that_of_subprocess(own: bool) -> None:
    command = ["sh", "-c", "cat; echo wrong >&2; exit 3"]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if own:
        with Programs().own():
            done = programs.run(command, **options)
    else:
        done = programs.run(command, **options)
    assert (done.args, done.returncode, done.stdout, done.stderr) == (command, 3, b"", b"wrong\n")
