"""A custom base to be made, and the options that it is fetched with."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.inputs.build_options import FetchOptions
from tests.unit.layouts import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "base")


@pytest.fixture
def options(tmp_path: Path) -> FetchOptions:
    return FetchOptions(cache=tmp_path / "cache", matrix=tmp_path / "matrix.yaml", jobs=2)
