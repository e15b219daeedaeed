"""The copy of the checkout that Ray takes to the workers: what decides layers, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from images.errors import UsageError
from images.repository import ROLL_RUNTIME, ROOT

if TYPE_CHECKING:
    from images.inputs.matrix.records import Matrix

_MATRIX = "matrix"
_IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")


def copy(matrix: Matrix, directory: Path) -> str:
    """Copy the builder, `roll_runtime`, a matrix and its locks; return the matrix's path there.

    Args:
        matrix: the matrix; it may be outside the checkout.
        directory: an empty directory.

    Raises:
        UsageError: the locks are not below the matrix's directory.
    """
    locks = os.path.relpath(matrix.locks, matrix.path.parent)
    if locks.startswith(".."):
        raise UsageError(
            f"{matrix.path}: its `locks:` are outside its directory, and --ray copies both",
            remedy="keep the locks below the directory of the matrix",
        )
    for source in (ROOT / "images", ROLL_RUNTIME):
        shutil.copytree(source, directory / source.name, ignore=_IGNORED)
    there = directory / _MATRIX
    (there / locks).mkdir(parents=True)
    shutil.copy(matrix.path, there / matrix.path.name)
    for lock in matrix.locks.glob("*.txt"):
        shutil.copy(lock, there / locks)
    return f"{_MATRIX}/{matrix.path.name}"
