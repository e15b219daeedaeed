"""The tar of a layer out of its blob, by media type, in pieces of bounded size."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from images.errors import IntegrityError
from images.util import untrusted_files

_CHUNK = 1 << 20
_PACKED = 1 << 16
"""Compressed bytes at a time: of many small gzip members, what is left is copied for each."""


def tar(path: Path, size: int, media_type: str, *, remedy: str | None = None) -> Iterator[bytes]:
    """The tar in pieces.

    Args:
        path: the blob.
        size: bytes that it should have.
        media_type: ends in `zstd`, or it is gzip (RFC 1952; of one member or several).
        remedy: for the error.

    Raises:
        IntegrityError: the blob has another size than it should, or is not compressed as its media
            type says.
    """
    try:
        with untrusted_files.open_regular(path) as stream:
            if (found := os.fstat(stream.fileno()).st_size) != size:
                raise _DamagedError(f"it has {found} bytes instead of {size}")
            yield from _zstd(stream) if media_type.endswith("zstd") else _gzip(stream)
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
