"""The digest of a directory: of names, kinds, executable bits and contents of its files."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def of(root: Path) -> str:
    """Return the SHA-256, in hexadecimal; times, owners and other mode bits do not count.

    Raises:
        OSError: an entry cannot be read, or is not a file, a directory or a symbolic link.
    """
    found = hashlib.sha256()
    for name, entry in sorted(_walk(str(root), "")):
        found.update(f"{name}\0{_state(entry)}\0".encode(errors="surrogateescape"))
    return found.hexdigest()


def _walk(directory: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            name = prefix + entry.name
            yield name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{name}/")


def _state(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    if entry.is_symlink():
        return f"link {Path(entry.path).readlink()}"
    # Anything but a regular file could block for ever.
    with os.fdopen(os.open(entry.path, _READ), "rb", 0) as stream:
        mode = os.fstat(stream.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(f"{entry.path}: not a file")
        content = hashlib.sha256(stream.read()).hexdigest()
    return f"{'program' if mode & 0o100 else 'file'} {content}"
