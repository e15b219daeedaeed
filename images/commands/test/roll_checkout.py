"""The checkout of ROLL that `--roll` names: whether it is one, and its commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images.errors import ToolError, UsageError
from images.util import git

FILES = (
    "roll/distributed/strategy/sglang_strategy.py",
    "roll/pipeline/rlvr/rlvr_pipeline.py",
    "examples/start_rlvr_pipeline.py",
)
"""Files by which a checkout of ROLL is known."""

_USED = ("roll", "examples")
_REMEDY = "git clone https://github.com/alibaba/ROLL DIR, then name it: --roll DIR"


@dataclass(frozen=True, slots=True)
class RollCheckout:
    """A checkout of ROLL.

    Attributes:
        path: the work tree.
        commit: its hash.
        dirty: whether files that the tests use differ from it.
    """

    path: Path
    commit: str
    dirty: bool


def read(path: Path) -> RollCheckout:
    """Read the checkout in a directory.

    Args:
        path: the top of a work tree.

    Raises:
        ToolError: git is not installed.
        UsageError: it is not a work tree of ROLL, or git reports no commit.
    """
    path = path.absolute()
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise UsageError(f"{path}: no checkout of ROLL: {missing[0]} is missing", remedy=_REMEDY)
    try:
        tree = git.Git(path)
        if tree.top.resolve() != path.resolve():
            raise UsageError(
                f"{path}: no checkout of its own: it is part of {tree.top}", remedy=_REMEDY
            )
        return RollCheckout(path, tree.commit, tree.changed(*_USED))
    except FileNotFoundError:
        remedy = "install git: evidence names ROLL's commit"
        raise ToolError("git is not installed", remedy=remedy) from None
    except ValueError as error:
        raise UsageError(f"{path}: git reports no commit: {error}", remedy=_REMEDY) from None
