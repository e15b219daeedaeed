"""Ctrl-C: in order at first, at once when it comes again, and never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from images.repository import ROOT

HEAD = """
import os, signal, sys, time
from images.util import interrupts
from images.commands.test import suites as testing
interrupts.handle()
def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
"""

UNWINDS = """
try:
    try:
        interrupt()
    finally:
        print("unwinding", flush=True)
        interrupt()
finally:
    print("not reached")
"""

LOST = """
class Lost:
    def __del__(self):
        interrupt()
try:
    Lost()
    time.sleep(60)
except KeyboardInterrupt:
    print("taken")
"""

AT_THE_END = """
interrupts.ending()
interrupt()
print("not reached")
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HEAD + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.mark.parametrize(("script", "printed"), [(UNWINDS, "unwinding\n"), (AT_THE_END, "")])
def test_interrupt_that_comes_again_ends_at_once(script: str, printed: str) -> None:
    done = run(script)
    assert (done.returncode, done.stdout) == (130, printed)
    assert done.stderr == "interrupted again: ended at once\n"


def test_interrupt_in_a_place_that_cannot_raise_is_not_lost() -> None:
    done = run(LOST)
    assert (done.returncode, done.stdout, done.stderr) == (0, "taken\n", "")


def test_process_that_is_to_ignore_interrupts_does() -> None:
    """As a shell starts its jobs in the background."""
    command = f"trap '' INT; exec '{sys.executable}' -c \"$1\""
    done = subprocess.run(
        ["sh", "-c", command, "sh", HEAD + "interrupt(); print('ignored')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ignored\n")


CLEANS_UP = """
import pathlib, sys, time
try:
    print("at work", flush=True)
    time.sleep(60)
finally:
    time.sleep(1)
    pathlib.Path(sys.argv[1]).touch()
"""


def test_tests_that_are_interrupted_clean_up(tmp_path: Path) -> None:
    script = HEAD + "testing.run_to_the_end([sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", script, "-c", CLEANS_UP, str(tmp_path / "cleaned")]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == "at work\n"
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate()
    assert "interrupted: the tests clean up" in said
    assert (tmp_path / "cleaned").exists()
