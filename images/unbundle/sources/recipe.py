"""Recipes: a layer's tar as ranges of its bytes and files that the destination has.

Format: lines of JSON. `[N]` is followed by N bytes of the tar; `[SHA256, N, PATH]` stands for the
N bytes of a file with that hash, which an inventory lists at PATH. The whole is compressed as the
layer was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable, Iterator

from images.errors import IntegrityError
from images.oci.layer.pieces import Reader
from images.util import untrusted_files

_CHUNK = 1 << 20


def stretch(length: int) -> bytes:
    """Return the line before `length` bytes of the tar."""
    return json.dumps([length]).encode() + b"\n"


def copy(sha256: str, size: int, path: str) -> bytes:
    """Return the line for a file that the destination has."""
    return json.dumps([sha256, size, path]).encode() + b"\n"


def read(
    pieces: Iterator[bytes | memoryview], find: Callable[[str, int, str], Path]
) -> Iterator[bytes | memoryview]:
    """Return the tar of a recipe, in pieces.

    Args:
        pieces: the recipe, decompressed.
        find: returns a file by its hash, size and possible path.

    Raises:
        IntegrityError: it is not a recipe, or a file changed while it was read.
    """
    reader = Reader(pieces)
    while True:
        line = reader.line()
        if not line:
            return
        try:
            record = json.loads(line)
            if len(record) == 1:
                wanted, found = int(record[0]), reader.take(int(record[0]))
            else:
                wanted = int(record[1])
                found = _content(find(str(record[0]), wanted, str(record[2])))
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise IntegrityError(f"not a recipe: {error!r}") from error
        for piece in found:
            wanted -= len(piece)
            yield piece
        if wanted:
            raise IntegrityError(f"wrong number of bytes in a recipe: {line[:200]!r}")


def _content(path: Path) -> Iterator[memoryview]:
    with untrusted_files.open_regular(path) as stream:
        while True:
            piece = stream.read(_CHUNK)
            if not piece:
                return
            yield memoryview(piece)
