"""Writing to the destination's disk so that a run may be killed at any moment."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Iterator

from images.errors import BuildError, StoreError, UsageError
from images.util import untrusted_files


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Give a file new content, at once or not at all."""
    with unfinished(path) as out:
        out.write(content)
        os.fchmod(out.fileno(), mode)


@contextmanager
def unfinished(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets the name `path` when the block ends, and its bytes are on the disk."""
    # Always the same name: what a killed run left is overwritten, and does not pile up.
    new = path.with_name(f"{path.name}.new")
    try:
        with suppress(FileNotFoundError):
            new.unlink()
        # Made by us alone: no link or pipe that somebody put there is written to.
        with new.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def hold(path: Path, busy: str) -> IO[bytes]:
    """Lock a file for as long as the result lives.

    Raises:
        UsageError: somebody else has it.
    """
    lock = untrusted_files.open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UsageError(busy, remedy="wait until it is done") from None
    return lock


def flush(path: Path) -> None:
    """Bring a whole file system to its disk (syncfs, Linux 2.6.39 and glibc 2.14)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def close(pieces: Iterator[object]) -> None:
    """End a generator and the threads behind it, whether it was read to its end or not."""
    end = getattr(pieces, "close", None)
    if end is not None:
        end()


def told(error: OSError, what: str) -> BuildError:
    """The system's word for a disk that cannot be written as one that names the remedy."""
    where = f": {error.filename!r}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"{what}: no space left on the disk{where}",
            remedy="make room and run the same command again: it goes on; --remove-parts frees "
            "each part once it is used",
        )
    return StoreError(
        f"{what}: {error.strerror or error}{where}",
        remedy="fix that and run the same command again: it goes on",
    )
