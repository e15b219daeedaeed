"""Progress: lines in a log, one display on a terminal, and times that add up."""

from __future__ import annotations

import io
import os
import pty
import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from images.util import progress
from images.util.progress import Progress


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (1, "1 B"), (999, "999 B"), (1000, "1 kB"), (1500, "1.5 kB"), (999_499, "999 kB"),
     (999_500, "1 MB"), (12_345_678, "12.3 MB"), (999_600_000, "1.00 GB"),
     (8_940_000_000, "8.94 GB"), (-1500, "-1.5 kB"), (1_234_000_000_000, "1234.00 GB")],
)  # fmt: skip
def test_size_is_written_as_people_read_it(amount: int, text: str) -> None:
    assert progress.size(amount) == text


def test_log_has_a_line_at_the_end_of_a_stage() -> None:
    out = io.StringIO()
    shown = Progress(out)
    with shown.stage("layers", 3000) as meter:
        meter.advance(1000)
        meter.log("made one")
        meter.advance(2000)
    lines = out.getvalue().splitlines()
    assert lines[0] == "made one"
    assert lines[1].startswith("layers: 3 kB in ")
    assert len(lines) == 2


def test_line_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers are made by threads: what one writes must not come into the middle of another's."""
    pieces: list[str] = []
    out = io.StringIO()
    monkeypatch.setattr(out, "write", pieces.append)
    with Progress(out).stage("layers", 1000) as meter:
        meter.log("made one")
    assert [piece[-1] for piece in pieces] == ["\n", "\n"], pieces


def test_log_has_a_line_now_and_then_of_a_long_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_QUIET", 0.0)
    out = io.StringIO()
    with Progress(out).stage("fetch", 4000) as meter:
        meter.advance(1000)
        meter.advance(-500)
    assert out.getvalue().splitlines()[:2] == ["fetch: 1 kB of 4 kB", "fetch: 500 B of 4 kB"]


def test_time_of_each_stage_is_kept_in_order_and_adds_up() -> None:
    shown = Progress(io.StringIO())
    with shown.timed("total"):
        for name in ("one", "two", "one"):
            with shown.stage(name, 1):
                pass
        first = dict(shown.seconds)
    assert list(shown.seconds) == ["one", "two", "total"]
    assert shown.seconds["total"] >= first["one"] + first["two"] > 0


def test_stage_that_fails_is_timed_too() -> None:
    shown = Progress(io.StringIO())
    with suppress(KeyError), shown.stage("one", 1), shown.timed("two"):
        raise KeyError
    assert shown.seconds.keys() == {"one", "two"}


def test_stage_ends_once() -> None:
    out = io.StringIO()
    shown = Progress(out)
    with shown.stage("one", 1) as meter:
        meter.end()
        noted = shown.seconds["one"]
    assert shown.seconds["one"] == noted
    assert len(out.getvalue().splitlines()) == 1


def test_threads_lose_no_byte() -> None:
    out = io.StringIO()
    with Progress(out).stage("many", 8000) as meter:

        def work() -> None:
            for _ in range(2000):
                meter.advance(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert out.getvalue().startswith("many: 8 kB in")


class Terminal:
    """A pseudo-terminal, and what was written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream: TextIO = os.fdopen(slave, "w")
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):
            while piece := os.read(self._master, 65536):
                self._written += piece

    def text(self) -> str:
        self.stream.close()
        self._reader.join()
        os.close(self._master)
        return self._written.decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_terminal_shows_stages_that_overlap_in_one_display(terminal: Terminal) -> None:
    shown = Progress(terminal.stream)
    with shown.stage("fetch", 2000) as fetch, shown.stage("layers", 3000) as layers:
        fetch.advance(2000)
        layers.log("made [one]")
        fetch.end()
        layers.advance(3000)
    text = terminal.text()
    assert "made [one]" in text
    last = text.rpartition("made [one]")[2]
    assert "2.0/2.0 kB" in last
    assert "3.0/3.0 kB" in last
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # cursor hidden and shown
    assert shown.seconds.keys() == {"fetch", "layers"}


def test_terminal_is_left_in_order_by_a_failure(terminal: Terminal) -> None:
    with suppress(KeyError), Progress(terminal.stream).stage("fetch", 2000):
        raise KeyError
    assert terminal.text().rstrip().endswith("\x1b[?25h")


def test_stages_one_after_the_other_each_have_a_display(terminal: Terminal) -> None:
    shown = Progress(terminal.stream)
    for name in ("one", "two"):
        with shown.stage(name, 5) as meter:
            meter.advance(5)
    text = terminal.text()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 2


# -- activities without bytes ----------------------------------------------------------------------


def test_terminal_shows_what_is_done_while_no_byte_comes(terminal: Terminal) -> None:
    with Progress(terminal.stream).stage("layers", 3000) as meter:
        meter.advance(3000)
        with meter.busy("writing [torch] to the disk"), meter.busy("making \x1b[2Jscipy"):
            time.sleep(0.3)  # the display draws ten times a second
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.text())
    assert "writing [torch] to the disk" in shown or "writing [torch] to the…" in shown
    assert "writing" not in shown.rstrip().rpartition("layers")[2]


def test_log_reports_activity_after_the_last_byte() -> None:
    out = io.StringIO()
    with Progress(out).stage("docker load", 3000) as meter:
        with meter.busy("not worth a line"):
            meter.advance(3000)
        with meter.busy("Docker unpacks the layers"):
            pass
    assert out.getvalue().splitlines()[0] == "docker load: Docker unpacks the layers"
    assert len(out.getvalue().splitlines()) == 2


def test_log_names_what_is_under_way_in_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_QUIET", 0.0)
    out = io.StringIO()
    with Progress(out).stage("layers", 4000) as meter, meter.busy("making torch"):
        meter.advance(1000)
    assert out.getvalue().splitlines()[0] == "layers: 1 kB of 4 kB; making torch"


def test_terminal_that_moves_no_cursor_gets_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with Progress(terminal.stream).stage("layers", 4000) as meter:
        meter.log("made one")
        meter.advance(4000)
    text = terminal.text()
    assert "\x1b" not in text
    assert [line.split(" in ")[0] for line in text.splitlines()] == ["made one", "layers: 4 kB"]


def test_progress_works_without_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    shown = Progress()
    with shown.stage("one", 1) as meter:
        meter.log("made one")
        meter.advance(1)
    with Path("/dev/full").open("w") as full, Progress(full).stage("one", 1) as meter:
        meter.log("made one")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # its buffer must go somewhere
    assert shown.seconds.keys() == {"one"}
