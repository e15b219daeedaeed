"""Locked files into the download cache, each known by its SHA-256.

The cache is a directory of `<sha256>/<filename>`. A file is there only after its hash was
checked, so it is also the archive that keeps old targets buildable when the index drops a file.
An unfinished download stays beside it as `<filename>.part` and is taken up where it ended.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from images.errors import FetchError, IntegrityError
from images.inputs.lock.artifact import Artifact
from images.util import sha256


def cached(artifact: Artifact, cache: Path) -> Path:
    """Where the artifact lies in the cache, whether it is there or not."""
    return cache / artifact.sha256 / artifact.filename


def is_cached(artifact: Artifact, cache: Path) -> bool:
    """Whether the cache holds the artifact with its full size (its hash is not read again)."""
    try:
        return cached(artifact, cache).stat().st_size == artifact.size
    except OSError:
        return False


def missing(artifacts: Iterable[Artifact], cache: Path) -> list[Artifact]:
    """Those artifacts that the cache does not hold, without repetition, in their order."""
    return [artifact for artifact in dict.fromkeys(artifacts) if not is_cached(artifact, cache)]


_checked: set[tuple[str, int, int]] = set()
"""Files that this process has hashed: (SHA-256, inode, modification time in nanoseconds)."""


def checked(artifact: Artifact, cache: Path) -> Path:
    """The cached file, after its bytes were hashed again (once in a process).

    Raises:
        IntegrityError: the bytes on disk have changed since they were fetched.
        FetchError: the file is not in the cache.
    """
    path = cached(artifact, cache)
    try:
        status = path.stat()
        seen = (artifact.sha256, status.st_ino, status.st_mtime_ns)
        found = artifact.sha256 if seen in _checked else sha256.of_file(path)
    except OSError as error:
        raise FetchError(
            f"{path}: cannot be read: {error.strerror}",
            remedy="fetch it (python build.py fetch --target ID), or name the cache that has it: "
            "--cache DIR",
        ) from error
    if found != artifact.sha256:
        raise IntegrityError(
            f"SHA256 mismatch for {artifact.filename} in the download cache: "
            f"expected '{artifact.sha256}', got '{found}'",
            remedy=f"rm {path}  # then build again: the file is fetched anew",
        )
    _checked.add(seen)
    return path


def mark_checked(artifact: Artifact, path: Path) -> None:
    """Note that this process has hashed the file at `path` while it arrived.

    Raises:
        OSError: there is no such file.
    """
    status = path.stat()
    _checked.add((artifact.sha256, status.st_ino, status.st_mtime_ns))


@contextmanager
def locked_part(part: Path) -> Iterator[IO[bytes]]:
    """Open a part file for one process at a time; two builds then fetch a file once.

    What is in it when the context is left stays, unless it was given its name.
    """
    while True:
        with part.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # Its former holder may have renamed it while we waited: then this is another file.
            if part.exists() and part.stat().st_ino == os.fstat(stream.fileno()).st_ino:
                yield stream
                return
