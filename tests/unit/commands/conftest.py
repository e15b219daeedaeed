"""A copy of the matrix, a store with an image, and a small matrix with its own locks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from images.oci.descriptor import Blob
from images.oci.image import Image, Layer
from images.oci.layer.entry import of_bytes
from images.oci.layer.writer import write
from images.oci.store.store import Store, open_store
from images.repository import ROOT
from tests.unit.command_line import TARGET
from tests.unit.small_matrix import SmallMatrix, wheel


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """A copy of the real matrix and its locks, to be spoilt."""
    copy = tmp_path / "matrix.yaml"
    shutil.copy(ROOT / "matrix.yaml", copy)
    shutil.copytree(ROOT / "images" / "locks", tmp_path / "images" / "locks")
    return copy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds one small image."""
    store = open_store(tmp_path / "my store")
    with store.blobs.new_file() as (out, commit):
        blob: Blob = write([of_bytes("a", b"1")], out, "gzip")
        commit(blob.digest)
    store.save(Image(TARGET, (Layer("only", blob),), {"A": "1"}, {"roll.target": TARGET}, "t"))
    return store


@pytest.fixture
def work(tmp_path: Path) -> SmallMatrix:
    work = SmallMatrix(tmp_path)
    torch = wheel("torch", 9_000_000, "2.8.0")
    work.write({"052": [torch, wheel("scipy", 3_000_000)], "054": [torch, wheel("attrs", 10)]})
    return work
