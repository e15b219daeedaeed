"""SHA-256 of files, read piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from images.util import untrusted_files

_CHUNK = 1 << 20


def of_file(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Args:
        path: the file.
        progress: called with the number of bytes when they are read.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    digest = hashlib.sha256()
    with untrusted_files.open_regular(path) as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()
