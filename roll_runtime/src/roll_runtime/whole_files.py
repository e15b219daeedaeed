"""Files that are whole from their first moment on, whoever else writes the same one."""

import contextlib
import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it; the last of several writers wins.

    Args:
        path: the file; its directory is made.
        content: all of it.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # At random: containers that share a volume have processes of the same number.
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def holds(path: Path, content: bytes) -> bool:
    """Return whether a file has this content: one that a crash cut short has not."""
    try:
        return path.read_bytes() == content
    except OSError:
        return False
