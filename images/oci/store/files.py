"""Files of a store: there whole or not at all, and nothing of a killed build stays for ever.

Nothing is ever changed in place: a file gets its name by a rename, once its bytes are on the disk.
What has no name yet lies in `.roll/tmp`, locked by whoever writes it; a file or a directory there
that nobody has locked is of a build that was killed, and goes.
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
from images.util import untrusted_files


class Files:
    """The directory of a store, its locks, and what is being written in it.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tmp = path / ".roll" / "tmp"

    def note(self, name: str, content: bytes) -> None:
        """Keep a small document of ours as `.roll/NAME`, whole or not at all."""
        path = self.path / ".roll" / name
        with disk(self.path):
            path.parent.mkdir(exist_ok=True)
            self._replace(path, content)

    def noted(self, name: str) -> bytes | None:
        """What `note` kept under that name."""
        try:
            return (self.path / ".roll" / name).read_bytes()
        except OSError:
            return None

    @contextmanager
    def building(self) -> Iterator[None]:
        """Keep `gc` away while a build relies on blobs that no image names yet."""
        with self._hold(fcntl.LOCK_SH):
            self._remove_abandoned()
            yield

    @contextmanager
    def workdir(self) -> Iterator[Path]:
        """A directory for what a layer is made from; removed at the end, or by a later build."""
        with disk(self.path):
            path, held = self._new_directory()
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
                os.close(held)

    def _new_directory(self) -> tuple[Path, int]:
        while True:
            path = Path(tempfile.mkdtemp(dir=self._tmp))
            with suppress(FileNotFoundError):
                held = os.open(path, os.O_RDONLY)
                fcntl.flock(held, fcntl.LOCK_EX)
                if path.exists():
                    return path, held
                os.close(held)
            # Another build took it for abandoned before it was locked: try again.

    def _remove_abandoned(self) -> None:
        """What killed builds left unfinished: nobody holds its lock any more."""
        for path in self._tmp.iterdir():
            with suppress(OSError):
                if path.is_symlink():  # no build makes one, and what it leads to is not ours
                    path.unlink()
                    continue
                held = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)  # even a pipe
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                finally:
                    os.close(held)

    @contextmanager
    def _hold(self, how: int) -> Iterator[None]:
        with disk(self.path), untrusted_files.open_lock(self.path / ".roll" / "in-use") as lock:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
            except BlockingIOError:
                busy = "a build or a push is at work" if how == fcntl.LOCK_EX else "gc is at work"
                raise StoreError(
                    f"{self.path}: {busy} on this store", remedy="wait for it, then try again"
                ) from None
            yield

    @contextmanager
    def _index_locked(self) -> Iterator[None]:
        with disk(self.path), untrusted_files.open_lock(self.path / ".roll" / "index-lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _replace(self, path: Path, content: bytes) -> None:
        with self._unfinished() as out:
            out.write(content)
            finish(out, path)

    @contextmanager
    def _unfinished(self) -> Iterator[IO[bytes]]:
        """A new file that is removed unless it gets another name; locked while it is written."""
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
    """Turn the system's word for a full or read-only disk into one that names the remedy."""
    try:
        yield
    except OSError as error:
        # Of two names the second is where it was to be copied or renamed to.
        names = [name for name in (error.filename2, error.filename) if name is not None]
        places = [Path(os.fsdecode(name)) for name in names if isinstance(name, (str, bytes))]
        place = next((place for place in places if _belongs(place, path)), None)
        here = place is not None
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and (here or not places):
            raise StoreError(
                f"{path}: no space left on the disk that holds the store",
                remedy="python build.py gc, or another place with --store DIR; "
                "the layers that were finished are kept",
            ) from error
        if here:
            raise StoreError(
                f"{path}: the store cannot be used: {place}: {error.strerror}",
                remedy="choose a place that you may write with --store DIR",
            ) from error
        raise


def finish(out: IO[bytes], path: Path) -> None:
    """Give a file its name once its bytes are on the disk."""
    out.flush()
    os.fsync(out.fileno())
    os.fchmod(out.fileno(), 0o644)
    Path(out.name).replace(path)


def _belongs(place: Path, store: Path) -> bool:
    """Whether a path is in the store or leads to it."""
    return store in (place, *place.parents) or place in store.parents
