"""A bundle of a small image, and the result of unpacking it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from images.oci.image import Image
from images.oci.store.store import Store
from images.util.progress import Progress
from tests.image import unpack
from tests.unit import bundles
from tests.unit.bundles import make, tree


@pytest.fixture
def small(tmp_path: Path) -> tuple[Store, Image]:
    return bundles.three_layers(tmp_path / "store")


@pytest.fixture
def out(small: tuple[Store, Image], tmp_path: Path) -> Path:
    """A bundle of the small image in parts of 100 kB."""
    make(*small, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def expected(small: tuple[Store, Image], tmp_path: Path) -> dict[str, tuple[object, ...]]:
    """The image as tests.image.unpack writes it, layer upon layer."""
    with Path(os.devnull).open("w") as silent:
        unpack.unpack(*small, tmp_path / "expected", Progress(silent))
    return tree(tmp_path / "expected")
