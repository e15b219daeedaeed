"""The tiny target for all tests of faults."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import chance as chance_of_tests
from tests.faults import index, tiny
from tests.faults.tiny import Tiny

chance_of_tests.load_profile()


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """The tiny target, locked; nothing is built yet."""
    with index.serving() as served:
        yield tiny.make(served, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def digest(target: Tiny, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the target's image, from a build that nothing went wrong with."""
    return target.fresh(tmp_path_factory.mktemp("plain")).build()


@pytest.fixture
def fresh(target: Tiny, tmp_path: Path) -> Tiny:
    """The target with a store and an empty download cache of the test's own."""
    return target.fresh(tmp_path)


@pytest.fixture
def warm(target: Tiny, tmp_path: Path) -> Tiny:
    """The same with all files in the download cache."""
    return target.fresh(tmp_path, warm=True)


@pytest.fixture
def chance() -> random.Random:
    """Random choices; a failed test shows the seed, and ROLL_IMAGES_SEED repeats them."""
    return chance_of_tests.generator()
