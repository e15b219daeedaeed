"""A matrix whose locks are in the test's own directory, and a target of one requirement in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from images.inputs.matrix.load import load
from images.inputs.matrix.records import Matrix, Target
from images.repository import ROOT


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    real = load(ROOT / "matrix.yaml")
    return dataclasses.replace(real, locks=tmp_path / "locks", path=tmp_path / "matrix.yaml")


@pytest.fixture
def target(matrix: Matrix) -> Target:
    """The first target, cut down to one requirement that is found below."""
    return dataclasses.replace(
        matrix.targets[0],
        requirements=("demo",),
        constraints=(),
        overrides=(),
        sdists=(),
        dependencies=True,
    )
