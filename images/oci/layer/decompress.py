"""Decompression of layers: the tar of a blob, by media type, in pieces of bounded size."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from images.errors import IntegrityError
from images.oci.descriptor import Blob
from images.oci.store.blobs import Blobs
from images.util import untrusted_files

REMEDY = "python build.py gc --damaged, then build again"
"""For a layer of the store that is damaged."""

_CHUNK = 1 << 20
_PACKED = 1 << 16
"""Compressed bytes at a time: the rest of a piece is copied for each of many small gzip members."""


def unpacked(blobs: Blobs, blob: Blob) -> Iterator[bytes]:
    """Yield the tar of a layer of the store.

    Raises:
        IntegrityError: as `tar`.
    """
    return tar(blobs.path(blob.digest), blob, remedy=REMEDY)


def tar(path: Path, blob: Blob, *, remedy: str | None = None) -> Iterator[bytes]:
    """Yield the tar of a layer.

    Args:
        path: the file with its compressed bytes.
        blob: its size, and its media type, which ends in `zstd` or stands for gzip (RFC 1952; of
            one member or several).
        remedy: for the error.

    Raises:
        IntegrityError: the file has another size, or is not compressed as the media type says.
    """
    try:
        with untrusted_files.open_regular(path) as stream:
            if (found := os.fstat(stream.fileno()).st_size) != blob.size:
                raise _DamagedError(f"it has {found} bytes instead of {blob.size}")
            yield from _zstd(stream) if blob.media_type.endswith("zstd") else _gzip(stream)
    except (_DamagedError, OSError, zlib.error) as error:
        raise IntegrityError(f"{path}: a layer cannot be read: {error}", remedy=remedy) from error


class _DamagedError(Exception):
    pass


def _zstd(stream: IO[bytes]) -> Iterator[bytes]:
    import zstandard

    reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    try:
        while piece := reader.read(_CHUNK):
            yield piece
    except zstandard.ZstdError as error:
        raise _DamagedError(error) from error


def _gzip(stream: IO[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    while piece := stream.read(_PACKED):
        while piece:
            if inflater.eof:  # another member: parallel compressors and indexed layers have many
                inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            yield inflater.decompress(piece, _CHUNK)
            piece = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if not inflater.eof:
        raise _DamagedError("its end is missing")
