"""SHA-256 of files, read piece by piece, and of values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def of_json(value: Any) -> str:
    """Return the SHA-256, in hexadecimal, of a JSON-able value in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
