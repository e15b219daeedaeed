"""Files that somebody else may have put there: only regular ones, and never more than a limit.

A name may lead to a pipe, which waits for ever, or to a device, which never ends. Both are refused
as the system refuses a file that cannot be read, by an OSError: who reads answers for it already.
This module travels in every bundle (see `images.unbundle`).
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path
from typing import IO

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe is opened without a writer


def open_regular(path: Path) -> FileIO:
    """Open a file to read it, without a buffer.

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
    """The content of a small file.

    Args:
        path: the file.
        most: bytes that it may have, of `images.util.limits`.

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
    """Open a lock file, made where there is none; no link is followed.

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
