"""Misspelt words of the command line: each is named, with the nearest that there is."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from images.repository import ROOT
from tests.unit.command_line import TARGET, failed


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


def test_options_of_pytest_are_not_ours(tmp_path: Path) -> None:
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


WITHOUT_PYTEST = """
import runpy, sys
sys.modules["pytest"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_test_says_in_one_line_what_it_needs() -> None:
    """In a Python that has what builds images and no more."""
    build = [str(ROOT / "build.py"), "test", "--target", TARGET]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTEST, *build], capture_output=True, text=True, check=False
    )
    install = shlex.join([sys.executable, "-m", "pip", "install", f"{ROOT}[test]"])
    assert done.returncode == 8
    assert done.stderr.splitlines() == [
        "error: the tests of an image need pytest, which this Python does not have",
        f"fix: {install}",
    ]
