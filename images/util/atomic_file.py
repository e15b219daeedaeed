"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8; its directory is made if it is missing.

    An interruption leaves the file that was there before.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = _new(path)
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def write_all(texts: Mapping[Path, str]) -> None:
    """Write several files in UTF-8, or none of them.

    All are complete beside their destinations before the first is renamed. If a rename fails, or
    Ctrl-C comes between two, the renamed ones get their former content again.

    Raises:
        OSError: one of them cannot be written.
    """
    with ExitStack() as undone, ExitStack() as unneeded:
        ready: dict[Path, Path] = {}
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            ready[path] = _new(path)
            unneeded.callback(ready[path].unlink, missing_ok=True)
            ready[path].write_text(text, encoding="utf-8")
        for path, new in ready.items():
            before = path.read_bytes() if path.exists() else None
            undone.callback(_restore, path, before)
            new.replace(path)
        undone.pop_all()


def _new(path: Path) -> Path:
    """Return the name under which this thread writes a file, beside it."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")


def _restore(path: Path, before: bytes | None) -> None:
    if before is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(before)
