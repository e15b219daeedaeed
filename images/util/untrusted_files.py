"""Untrusted files: only regular ones are read, and never more than a limit.

A path may lead to a pipe, which blocks for ever, or to a device, which never ends. Both are refused
by an OSError, as the system refuses an unreadable file: callers handle that already. This module is
in every bundle (see `images.unbundle`).
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path
from typing import IO

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe without a writer must not block


def open_regular(path: Path) -> FileIO:
    """Open a file for reading, unbuffered.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        _need_regular(descriptor, path)
        return FileIO(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def whole(path: Path, most: int) -> bytes:
    """Return the content of a small file.

    Args:
        path: the file.
        most: the limit in bytes, of `images.util.limits`.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
    """
    content = b""
    with open_regular(path) as stream:
        size = min(os.fstat(stream.fileno()).st_size, most)
        while piece := stream.read(size + 1):
            content += piece
            if len(content) > most:
                raise OSError(errno.EFBIG, f"larger than the limit of {most} bytes", str(path))
    return content


def open_lock(path: Path) -> IO[bytes]:
    """Open a lock file, creating it if there is none; no link is followed.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o666)
    try:
        _need_regular(descriptor, path)
        return os.fdopen(descriptor, "r+b", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def _need_regular(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
