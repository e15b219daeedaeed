"""A checkout of ROLL that a user gives: that it is one, and which commit it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images.errors import ToolError, UsageError
from images.util import git

_FILES = (
    "roll/distributed/strategy/sglang_strategy.py",
    "roll/pipeline/rlvr/rlvr_pipeline.py",
    "examples/start_rlvr_pipeline.py",
)
_USED = ("roll", "examples")
_REMEDY = "git clone https://github.com/alibaba/ROLL DIR, and give --roll DIR"


@dataclass(frozen=True, slots=True)
class RollCheckout:
    """ROLL's source.

    Attributes:
        path: the work tree.
        commit: its hexadecimal name.
        dirty: whether files that the tests use differ from it.
    """

    path: Path
    commit: str
    dirty: bool


def read(path: Path) -> RollCheckout:
    """The checkout in a directory.

    Args:
        path: the top of a work tree.

    Raises:
        ToolError: git is not installed.
        UsageError: there is no work tree of ROLL, or git gives no commit of it.
    """
    path = path.absolute()
    missing = [name for name in _FILES if not (path / name).is_file()]
    if missing:
        raise UsageError(f"{path}: no checkout of ROLL: {missing[0]} is missing", remedy=_REMEDY)
    try:
        tree = git.Git(path)
        if tree.top.resolve() != path.resolve():
            raise UsageError(
                f"{path}: no checkout of its own: it lies in {tree.top}", remedy=_REMEDY
            )
        return RollCheckout(path, tree.commit, tree.changed(*_USED))
    except FileNotFoundError:
        remedy = "install git: evidence names ROLL's commit"
        raise ToolError("git is not installed", remedy=remedy) from None
    except ValueError as error:
        raise UsageError(f"{path}: git gives no commit of it: {error}", remedy=_REMEDY) from None
