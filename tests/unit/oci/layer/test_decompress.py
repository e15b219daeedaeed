"""Decompression of layers: any number of gzip members or zstd frames, and each fault reported."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from images.errors import IntegrityError
from images.oci.descriptor import LAYER_TYPE, Blob
from images.oci.layer import decompress
from images.oci.store.store import Store

TAR = random.Random(3).randbytes(100_000) + bytes(5 << 20)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def blob_of(content: bytes, compression: str) -> Blob:
    return Blob("", "", len(content), 0, LAYER_TYPE + compression)


@pytest.fixture(params=COMPRESS)
def compression(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("step", [7_000, 1 << 20, len(TAR)])
def test_layer_of_several_members(tmp_path: Path, compression: str, step: int) -> None:
    compress = COMPRESS[compression]
    cuts = range(0, len(TAR), step)
    packed = b"".join(compress(TAR[at : at + step]) for at in cuts) + compress(b"")
    path = tmp_path / "layer"
    path.write_bytes(packed)
    pieces = list(decompress.tar(path, blob_of(packed, compression)))
    assert b"".join(pieces) == TAR
    assert max(map(len, pieces)) <= 1 << 20


def test_damaged_layer_is_reported(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "layer"
    path.write_bytes(b"nothing that is compressed")
    with pytest.raises(IntegrityError, match="a layer cannot be read") as error:
        list(decompress.tar(path, blob_of(path.read_bytes(), compression), remedy="fetch it again"))
    assert error.value.remedy == "fetch it again"


def test_layer_without_its_end_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(gzip.compress(TAR)[:-30])
    with pytest.raises(IntegrityError, match="its end is missing"):
        list(decompress.tar(path, blob_of(path.read_bytes(), "gzip")))


def test_layer_of_another_size_is_reported(tmp_path: Path, compression: str) -> None:
    packed = COMPRESS[compression](TAR)
    path = tmp_path / "layer"
    path.write_bytes(packed + b"more")
    with pytest.raises(IntegrityError, match=rf"{len(packed) + 4} bytes instead of {len(packed)}"):
        list(decompress.tar(path, blob_of(packed, compression)))


def test_missing_layer_of_a_store_is_reported_with_a_fix(store: Store) -> None:
    blob = Blob(f"sha256:{'0' * 64}", "", 1, 0, LAYER_TYPE + "gzip")
    with pytest.raises(IntegrityError, match="a layer cannot be read") as error:
        list(decompress.unpacked(store.blobs, blob))
    assert error.value.remedy == decompress.REMEDY
