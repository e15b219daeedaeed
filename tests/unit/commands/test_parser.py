"""The parser of the whole command line: help, wrong usage, and suggestions for misspelt words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from images.repository import ROOT
from tests.unit.command_line import TARGET, cli, failed

COMMANDS = (
    "build", "fetch", "list", "lock", "load", "bundle", "push", "promote", "pull", "sbom",
    "provenance", "test", "inspect", "plan", "diff", "sizes", "verify", "gc",
)  # fmt: skip


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_commands_and_exit_codes(option: str) -> None:
    done = cli(option)
    assert done.returncode == 0
    for word in (*COMMANDS, "exit codes"):
        assert word in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    done = cli(command, "--help")
    assert done.returncode == 0
    assert "--store" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["build"], "--target"),
        (["--target"], "--target"),
        (["--target", TARGET, "--all"], "not allowed"),
        (["--target", TARGET, "--jobs", "0"], "at least 1"),
        (["--target", TARGET, "--jobs", "-1"], "at least 1"),
        (["--target", TARGET, "--jobs", "two"], "at least 1"),
        (["--target", TARGET, "--compression", "xz"], "xz"),
        (["--target", TARGET, "--nonsense"], "--nonsense"),
        (["--targ", TARGET], "--targ"),
        (["load"], "--target"),
        (["plan"], "--target"),
        (["diff", TARGET], "TO"),
        (["bundle", "--target", TARGET], "--out"),
        (["bundle", "--out", "x"], "--target"),
        (["test", "--target", TARGET, "--backend", "vm"], "vm"),
        (["test", "--target", TARGET, "--backend", "docker", "--rootfs", "/"], "--rootfs"),
        (["test", "--target", TARGET, "--rootfs", "/x"], "/x: no root file system"),
        (["test", "--all", "--gpu", "--evidence", "/x"], "name one --target"),
        (["test", "--all", "--rootfs", "/x"], "name one --target"),
        (["test", "--target", TARGET, "--roll", "/x"], "/x: no checkout of ROLL"),
    ],
)
def test_wrong_usage_is_reported(arguments: list[str], word: str) -> None:
    assert word in failed(2, *arguments)


@pytest.mark.parametrize("command", ["build", "test", "lock", "plan"])
def test_unknown_target_names_the_nearest_and_all(command: str) -> None:
    said = failed(2, command, "--target", "torch280-sglang52")
    assert "no target 'torch280-sglang52'" in said
    assert f"did you mean '{TARGET}'" in said
    assert "torch260-sglang046" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lst"], "no command 'lst'; did you mean 'list'?"),
        (["--targt", TARGET], "build.py build has no option --targt; did you mean '--target'?"),
        (["-target", TARGET], "build.py build has no option -target; did you mean '--target'?"),
        (
            ["inspect", "--targ=x"],
            "build.py inspect has no option --targ; did you mean '--target'?",
        ),
        (["gc", "--damage"], "build.py gc has no option --damage; did you mean '--damaged'?"),
        (["--target", TARGET, "--compression", "gzp"], "did you mean 'gzip'?"),
        (["test", "--target", TARGET, "--backend", "rootsf"], "did you mean 'rootfs'?"),
        (["plan", "--target", "torch28-sglang052"], f"did you mean '{TARGET}'?"),
        (["promote", "--target", "torch28-sglang052", "--to", "r/r"], f"did you mean '{TARGET}'?"),
    ],
)
def test_misspelt_word_is_named_with_the_nearest(arguments: list[str], said: str) -> None:
    lines = failed(2, *arguments).splitlines()
    assert said in lines[0]
    assert lines[1].startswith("fix: ")
    assert len(lines) == 2


def test_word_that_resembles_nothing_gets_no_suggestion() -> None:
    assert failed(2, TARGET) == (
        f"error: no command '{TARGET}'\n"
        "fix: python build.py --help  # a target is named by --target ID\n"
    )
    assert "did you mean" not in failed(2, "list", "--qqq")


def test_options_of_pytest_are_not_checked(tmp_path: Path) -> None:
    given = ("test", "--target", TARGET, "--store", tmp_path / "none", "--", "--targt", "-x")
    assert "no store there" in failed(2, *given)


def test_value_may_look_like_an_option() -> None:
    assert "'-1' is not a number of at least 1" in failed(2, "--target", TARGET, "--jobs", "-1")
    assert "argument --out" in failed(2, "sbom", "--target", TARGET, "--out")


def test_the_command_line_can_be_started_by_its_name() -> None:
    assert os.access(ROOT / "build.py", os.X_OK)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [ROOT / "build.py", "list"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[:1]) == (0, [b"TARGET"])
