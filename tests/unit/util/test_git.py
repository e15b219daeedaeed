"""A work tree of another user: it is read, and nothing of it runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from images.attest import revision
from images.commands.test import roll_checkout
from images.util.git import Git

COMMIT = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=first")


def git(where: Path, *arguments: str) -> str:
    command = ["git", "-C", str(where), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A commit with one file, and settings that would run a program in every way there is."""
    root = tmp_path / "tree"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    (root / "file").write_text("one\n")
    (root / ".gitattributes").write_text("file filter=evil\n")
    git(root, "add", ".")
    git(root, *COMMIT)
    script = tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\ncat\n")
    script.chmod(0o755)
    for name in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "core.sshCommand"):
        git(root, "config", name, str(script))
    git(root, "config", "filter.evil.required", "true")
    (root / "file").write_text("one\n")  # its time is another one, so git reads it again
    os.utime(root / "file", (1, 1))
    return root


def given_away(root: Path) -> Path:
    if os.geteuid():
        pytest.skip("only root gives files to another user")
    for path in (root, *root.rglob("*")):
        os.chown(path, 12345, 12345)
    return root


def test_own_tree_is_read_as_git_does(tree: Path) -> None:
    git(tree, "config", "--unset", "core.fsmonitor")
    git(tree, "config", "--remove-section", "filter.evil")
    assert revision.of(tree) == revision.Checkout(git(tree, "rev-parse", "HEAD"), False)


def test_tree_of_another_user_has_its_commit_and_runs_nothing(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = git(tree, "rev-parse", "HEAD")
    found = revision.of(given_away(tree))
    assert found == revision.Checkout(head, False)
    assert not (tree.parent / "ran").exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("change", ["file", "new"])
def test_changes_in_it_are_seen(tree: Path, change: str) -> None:
    (tree / change).write_text("other\n")
    found = revision.of(given_away(tree))
    assert found is not None
    assert found.modified
    assert not (tree.parent / "ran").exists()


def test_rolls_checkout_of_another_user_runs_nothing(tree: Path) -> None:
    for name in roll_checkout.FILES:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    found = roll_checkout.read(given_away(tree))
    assert found.dirty
    assert not (tree.parent / "ran").exists()


def test_unavailable_commit_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    assert revision.of(tmp_path) is None
    assert "warning: the provenance names no commit: git: " in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nowhere")
    assert revision.of(tmp_path) is None
    assert "names no commit: git is not installed (apt-get install" in capsys.readouterr().err


def test_directory_without_git_is_no_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert revision.of(tmp_path) is None
    assert capsys.readouterr().err == ""


def test_message_of_git_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a git repository"):
        _ = Git(tmp_path).commit
