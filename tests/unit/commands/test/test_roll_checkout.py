"""A checkout of ROLL: which commit it holds, and what is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from images.commands.test import roll_checkout
from images.errors import ToolError, UsageError


def git(path: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    command = ["git", *who, "-C", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files by which one is known, committed."""
    for name in roll_checkout.FILES:
        file = tmp_path / "ROLL" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("pass\n")
    git(tmp_path / "ROLL", "init", "-q")
    git(tmp_path / "ROLL", "add", "-A")
    git(tmp_path / "ROLL", "commit", "-qm", "first")
    return tmp_path / "ROLL"


def test_commit_is_reported(checkout: Path) -> None:
    found = roll_checkout.read(checkout)
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert not found.dirty
    assert found.path == checkout


def test_changed_source_is_reported_and_other_files_are_not(checkout: Path) -> None:
    (checkout / "output").mkdir()
    (checkout / "output" / "log").touch()
    assert not roll_checkout.read(checkout).dirty
    (checkout / "roll" / "new.py").touch()
    assert roll_checkout.read(checkout).dirty


def test_a_linked_work_tree_is_a_checkout(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "worktree", "add", "-q", str(tmp_path / "other"))
    assert roll_checkout.read(tmp_path / "other").commit == git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", roll_checkout.FILES)
def test_something_else_is_refused_with_what_is_missing(checkout: Path, name: str) -> None:
    (checkout / name).unlink()
    with pytest.raises(UsageError, match=f"no checkout of ROLL: {name} is missing") as raised:
        roll_checkout.read(checkout)
    assert "git clone" in (raised.value.remedy or "")


def test_an_export_without_a_commit_is_refused(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".git").rename(tmp_path / "gone")
    with pytest.raises(UsageError, match="git reports no commit"):
        roll_checkout.read(checkout)


def test_a_folder_of_another_repository_is_refused(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".git").rename(tmp_path / "gone")
    git(tmp_path, "init", "-q")
    with pytest.raises(UsageError, match="no checkout of its own"):
        roll_checkout.read(checkout)


def test_missing_git_is_reported(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError, match="git is not installed"):
        roll_checkout.read(checkout)
