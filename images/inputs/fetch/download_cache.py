"""The download cache: locked files by their SHA-256, in a directory of `<sha256>/<filename>`.

A file is there only after its hash was checked, so the cache is also the archive that keeps old
targets buildable when the index drops a file. It is passed as the path of its directory. What a
process has hashed it does not hash again, for any caller: hence the one module-level state here.
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
    """Return the path of an artifact in the cache, whether it is there or not."""
    return cache / artifact.sha256 / artifact.filename


def is_cached(artifact: Artifact, cache: Path) -> bool:
    """Return whether the cache has an artifact in its full size; the file is not hashed."""
    try:
        return cached(artifact, cache).stat().st_size == artifact.size
    except OSError:
        return False


def missing(artifacts: Iterable[Artifact], cache: Path) -> list[Artifact]:
    """Return the artifacts that the cache lacks, without repetition, in their order."""
    return [artifact for artifact in dict.fromkeys(artifacts) if not is_cached(artifact, cache)]


_checked: set[tuple[str, int, int]] = set()
"""The files that this process has hashed: SHA-256, inode, modification time in nanoseconds."""


def checked(artifact: Artifact, cache: Path) -> Path:
    """Return the path of a cached file, after its bytes were hashed once in this process.

    Raises:
        IntegrityError: the bytes on disk have changed since the download.
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
            remedy="fetch it (python build.py fetch --target ID), or name a cache that has it: "
            "--cache DIR",
        ) from error
    if found != artifact.sha256:
        raise IntegrityError(
            f"SHA256 mismatch for {artifact.filename} in the download cache: "
            f"expected '{artifact.sha256}', got '{found}'",
            remedy=f"rm {path}  # then build again: the file is downloaded again",
        )
    _checked.add(seen)
    return path


def mark_checked(artifact: Artifact, path: Path) -> None:
    """Note that this process hashed the file at `path` when it was downloaded.

    Raises:
        OSError: there is no such file.
    """
    status = path.stat()
    _checked.add((artifact.sha256, status.st_ino, status.st_mtime_ns))


@contextmanager
def locked_part(part: Path) -> Iterator[IO[bytes]]:
    """Open a part file for one process at a time, so that two builds download a file once.

    Its content stays when the context is left, unless the file was renamed.
    """
    while True:
        with part.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # Its last holder may have renamed it meanwhile: then the path is another file, or none.
            if part.exists() and part.stat().st_ino == os.fstat(stream.fileno()).st_ino:
                yield stream
                return
