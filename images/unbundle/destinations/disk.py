"""Writes to the destination's disk that are safe when the run is killed at any moment."""

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
    """Replace a file's content, at once or not at all."""
    with unfinished(path) as out:
        out.write(content)
        os.fchmod(out.fileno(), mode)


@contextmanager
def unfinished(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that is synced and renamed to `path` when the block ends."""
    # Always the same name: the rest of a killed run is overwritten and does not accumulate.
    new = path.with_name(f"{path.name}.new")
    try:
        with suppress(FileNotFoundError):
            new.unlink()
        # Newly created: nothing is written through a link or into a pipe that somebody put there.
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
    """Lock a file for as long as the result is open.

    Raises:
        UsageError: another process has locked it.
    """
    lock = untrusted_files.open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UsageError(busy, remedy="wait until it has ended") from None
    return lock


def flush(path: Path) -> None:
    """Sync a whole file system to its disk (syncfs, Linux 2.6.39 and glibc 2.14)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def close(pieces: Iterator[object]) -> None:
    """Close a generator and end its threads, whether it was read to its end or not."""
    end = getattr(pieces, "close", None)
    if end is not None:
        end()


def translated(error: OSError, what: str) -> BuildError:
    """Translate an error of the file system into a StoreError with a remedy."""
    where = f": {error.filename!r}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"{what}: no space left on the disk{where}",
            remedy="free some space and run the same command again to resume; --remove-parts frees "
            "each part after its last use",
        )
    return StoreError(
        f"{what}: {error.strerror or error}{where}",
        remedy="correct that and run the same command again to resume",
    )
