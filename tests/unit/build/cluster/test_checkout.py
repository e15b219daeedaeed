"""The copy of the checkout that goes to the workers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from images.build import prepare
from images.build.cluster import checkout
from images.errors import UsageError
from images.inputs.matrix.load import load
from images.repository import ROOT

SMALL = ROOT / "tests" / "integration" / "small" / "matrix.yaml"
KEYS = """
import json, sys
from images.build import prepare
from images.inputs.matrix.load import load
from pathlib import Path
matrix = load(Path(sys.argv[1]).absolute())
inputs = [prepare.inputs_of(matrix, target) for target in matrix.targets]
print(json.dumps([recipe.key for one in inputs for recipe in one.recipes()]))
"""


@pytest.mark.parametrize("path", [ROOT / "matrix.yaml", SMALL], ids=["real", "small"])
def test_keys_in_the_copy_are_those_of_the_checkout(path: Path, tmp_path: Path) -> None:
    matrix = load(path)
    there = checkout.copy(matrix, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", KEYS, there],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [
        recipe.key
        for target in matrix.targets
        for recipe in prepare.inputs_of(matrix, target).recipes()
    ]


def test_copy_is_small(tmp_path: Path) -> None:
    """Ray takes at most some hundred megabytes to the workers."""
    checkout.copy(load(ROOT / "matrix.yaml"), tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 20_000_000
    assert not [*tmp_path.rglob("__pycache__")]


def test_locks_elsewhere_are_refused(tmp_path: Path) -> None:
    matrix = replace(load(SMALL), locks=tmp_path / "locks")
    with pytest.raises(UsageError, match="outside its directory"):
        checkout.copy(matrix, tmp_path)
