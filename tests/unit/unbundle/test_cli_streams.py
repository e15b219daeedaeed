"""Output of the unpacker and the inventory on streams that are full or of another encoding."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit import bundles


@pytest.fixture
def out(tmp_path: Path) -> Path:
    layout, image = bundles.three_layers(tmp_path)
    bundles.make(layout, image, tmp_path / "out \u2026")
    return tmp_path / "out \u2026"


def in_shell(command: list[object], more: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = " ".join(f"'{word}'" for word in command)
    host = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["sh", "-c", f"{words} {more}"],
        env={**host, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_results_that_a_full_disk_takes_in_part_are_an_error(out: Path, tmp_path: Path) -> None:
    shutil.copy(out / "inventory.py", tmp_path / "alone.py")
    for command in (
        [bundles.PYTHON, out / "unpack.py", "check"],
        [bundles.PYTHON, out / "unpack.py", "inventory", out],
        [bundles.PYTHON, tmp_path / "alone.py", out],
    ):
        done = in_shell(command, ">/dev/full")
        assert done.returncode == 7, done.stderr
        assert "No space left" in done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr


def test_reader_that_goes_away_is_no_traceback(out: Path) -> None:
    done = in_shell([bundles.PYTHON, out / "unpack.py", "check"], "| true")
    assert done.stderr == ""


def test_log_on_a_full_disk_stops_nothing(out: Path, tmp_path: Path) -> None:
    unpack = [bundles.PYTHON, out / "unpack.py", "--rootfs", tmp_path / "root"]
    assert in_shell(unpack, "2>/dev/full").returncode == 0
    assert bundles.record(tmp_path / "root")["complete"] is True


def test_closed_streams_lose_what_goes_there_and_nothing_else(out: Path, tmp_path: Path) -> None:
    unpack: list[object] = [bundles.PYTHON, out / "unpack.py"]
    root = ["--rootfs", tmp_path / "root"]
    assert in_shell([*unpack, *root], "2>&-").returncode == 0
    refused = in_shell([*unpack, *root, "--digest", f"sha256:{'0' * 64}"], "2>&-")
    assert (refused.returncode, refused.stdout) == (6, "")
    unheard = in_shell([*unpack, "check"], ">&-")
    assert unheard.returncode == 7
    assert "error: standard output" in unheard.stderr
    assert in_shell([*unpack, "check"], "<&- >&- 2>&-").returncode == 7


def test_an_inventory_without_messages_holds_none(out: Path, tmp_path: Path) -> None:
    shutil.copy(out / "inventory.py", tmp_path / "alone.py")
    for command in ([out / "unpack.py", "inventory"], [tmp_path / "alone.py"]):
        done = in_shell([bundles.PYTHON, *command, out], "2>&-")
        assert done.returncode == 0
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines[-1] == {"files": len(lines) - 1}


def test_names_are_shown_in_any_encoding(out: Path, tmp_path: Path) -> None:
    unpack: list[object] = [bundles.PYTHON, out / "unpack.py", "--rootfs", tmp_path / "r \u2026"]
    done = in_shell(unpack, "", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert r"r \u2026" in done.stdout


def test_misspelt_command_is_named_with_the_nearest(out: Path) -> None:
    done = in_shell([bundles.PYTHON, out / "unpack.py", "chek"], "")
    assert done.returncode == 2
    assert "no command 'chek'; did you mean 'check'?" in done.stderr
