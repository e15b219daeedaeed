"""Files of a store: they appear whole or not at all, and what a killed build leaves is removed.

Nothing is ever changed in place: a file gets its name by a rename, once its bytes are on the disk.
What has no name yet is in `.roll/tmp`, locked by its writer; a file or a directory there that
nobody has locked is of a build that was killed, and is removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from images.errors import StoreError
from images.util import limits, untrusted_files

PRIVATE = ".roll"
"""The directory beside those of the OCI layout."""

INDEX_LOCK = "index-lock"
"""Name of the lock under which `index.json` and the records of remote layers are replaced."""


class Files:
    """The directory of a store: its private files, its locks, and what is being written in it.

    Args:
        path: the directory.

    Attributes:
        path: the same.
        private: the directory of what is no part of the OCI layout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.private = path / PRIVATE
        self._tmp = self.private / "tmp"

    def write(self, name: str, content: bytes) -> None:
        """Write a private file, whole or not at all.

        Args:
            name: its path in the private directory, of at most one directory and a name.
            content: its bytes.
        """
        path = self.private / name
        with disk(self.path):
            path.parent.mkdir(exist_ok=True)
            self.replace(path, content)

    def read(self, name: str) -> bytes | None:
        """Return the content of a private file, or None if it cannot be read."""
        try:
            return untrusted_files.whole(self.private / name, limits.LIST)
        except OSError:
            return None

    def names(self, directory: str) -> list[str]:
        """Return the names of the JSON files in a private directory, sorted, as `read` takes."""
        paths = (self.private / directory).glob("*.json")
        return sorted(f"{directory}/{path.name}" for path in paths)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Exclude `gc` while a build relies on blobs that no image names yet."""
        with self._in_use(fcntl.LOCK_SH):
            self.remove_abandoned()
            yield

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Exclude builds while blobs are removed.

        Raises:
            StoreError: a build is at work on this store.
        """
        with self._in_use(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _in_use(self, how: int) -> Iterator[None]:
        with disk(self.path), untrusted_files.open_lock(self.private / "in-use") as lock:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
            except BlockingIOError:
                busy = "a build or a push is at work" if how == fcntl.LOCK_EX else "gc is at work"
                raise StoreError(
                    f"{self.path}: {busy} on this store", remedy="wait for it, then try again"
                ) from None
            yield

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Wait for the lock of that name, and hold it."""
        with disk(self.path), untrusted_files.open_lock(self.private / name) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def workdir(self) -> Iterator[Path]:
        """Make a temporary directory; it is removed at the end, or by a later build."""
        with disk(self.path):
            path, lock = self._new_directory()
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)

    def _new_directory(self) -> tuple[Path, int]:
        while True:
            path = Path(tempfile.mkdtemp(dir=self._tmp))
            with suppress(FileNotFoundError):
                lock = os.open(path, os.O_RDONLY)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if path.exists():
                    return path, lock
                os.close(lock)
            # Another build took it for abandoned before it was locked: try again.

    def remove_abandoned(self) -> None:
        """Remove what killed builds left unfinished: its lock is no longer held."""
        for path in self._tmp.iterdir():
            with suppress(OSError):
                if path.is_symlink():  # no build makes one, and its target is not the store's
                    path.unlink()
                    continue
                lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)  # even a pipe
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                finally:
                    os.close(lock)

    def replace(self, path: Path, content: bytes) -> None:
        """Write a file of the store, or write it anew, by a rename."""
        with self.unfinished() as out:
            out.write(content)
            finish(out, path)

    @contextmanager
    def unfinished(self) -> Iterator[IO[bytes]]:
        """Open a new file that is removed unless it gets another name; locked while written."""
        while True:
            with tempfile.NamedTemporaryFile(dir=self._tmp, delete=False) as out:
                fcntl.flock(out, fcntl.LOCK_EX)
                if os.fstat(out.fileno()).st_nlink == 0:
                    continue  # another build took it for abandoned before it was locked
                try:
                    yield cast(IO[bytes], out)
                finally:
                    Path(out.name).unlink(missing_ok=True)
                return


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Translate errors of a full or read-only disk into a StoreError with a remedy."""
    try:
        yield
    except OSError as error:
        # Of two names the second is the destination of a copy or a rename.
        names = [name for name in (error.filename2, error.filename) if name is not None]
        paths = [Path(os.fsdecode(name)) for name in names if isinstance(name, (str, bytes))]
        ours = next((found for found in paths if _belongs(found, path)), None)
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and (ours or not paths):
            raise StoreError(
                f"{path}: no space left on the disk that holds the store",
                remedy="python build.py gc, or another directory with --store DIR; "
                "the layers that were finished are kept",
            ) from error
        if ours:
            raise StoreError(
                f"{path}: the store cannot be used: {ours}: {error.strerror}",
                remedy="choose a directory that you may write with --store DIR",
            ) from error
        raise


def finish(out: IO[bytes], path: Path) -> None:
    """Give a file its name once its bytes are on the disk."""
    out.flush()
    os.fsync(out.fileno())
    os.fchmod(out.fileno(), 0o644)
    Path(out.name).replace(path)


def _belongs(path: Path, store: Path) -> bool:
    """Return whether a path is in the store or leads to it."""
    return store in (path, *path.parents) or path in store.parents
