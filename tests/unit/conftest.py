"""Fixtures of several unit tests: a store, custom bases, wheels, a small disk, a faulty server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from images.inputs.build_options import FetchOptions
from images.oci.store.store import Store, open_store
from tests import chance
from tests.listening import listening
from tests.unit.faulty_server import Faulty, handler
from tests.unit.layouts import Layout
from tests.unit.wheels import MakeWheel, write_wheel

chance.load_profile()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(tmp_path / "store")


@pytest.fixture
def base_layout(tmp_path: Path) -> Layout:
    """An OCI layout for custom bases."""
    return Layout(tmp_path / "base")


@pytest.fixture
def fetch_options(tmp_path: Path) -> FetchOptions:
    """How custom bases are fetched: into a cache of the test's own."""
    return FetchOptions(cache=tmp_path / "cache", matrix=tmp_path / "matrix.yaml", jobs=2)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here (not root, or in a container)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    def make(files: Mapping[str, bytes], **options: Any) -> Path:
        directory = tmp_path / "wheels"
        directory.mkdir(exist_ok=True)
        return write_wheel(directory, files, **options)

    return make


@pytest.fixture
def server() -> Iterator[Faulty]:
    state = Faulty()
    with listening(handler(state)) as state.port:
        yield state
