"""The digest of a directory of files: of their names, kinds, right to be run and content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


def of(root: Path) -> str:
    """SHA-256, in hexadecimal; times, owners and other rights do not count.

    Raises:
        OSError: something cannot be read, or is neither file nor directory nor symbolic link.
    """
    found = hashlib.sha256()
    for name, entry in sorted(_walk(str(root), "")):
        found.update(f"{name}\0{_what(entry)}\0".encode(errors="surrogateescape"))
    return found.hexdigest()


def _walk(directory: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            name = prefix + entry.name
            yield name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{name}/")


def _what(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    if entry.is_symlink():
        return f"link {Path(entry.path).readlink()}"
    # What is no regular file could block for ever.
    with os.fdopen(os.open(entry.path, _READ), "rb", 0) as stream:
        mode = os.fstat(stream.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(f"{entry.path}: not a file")
        content = hashlib.sha256(stream.read()).hexdigest()
    return f"{'program' if mode & 0o100 else 'file'} {content}"
