"""The directory of a bundle while it is written: after a kill it never looks complete."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from images.errors import UsageError
from images.unbundle import document
from images.unbundle.document import Part

_MARK = ".bundle-unfinished"
_OURS = re.compile(
    r"part-\d{4,}|bundle\.json|unpack\.py|inventory\.py|libzstd\.so\.1|\.bundle-unfinished"
)


class PartWriter:
    """A stream that is cut into files.

    Attributes:
        parts: the finished files.
        written: bytes of the stream so far.
    """

    def __init__(self, directory: Path, part_size: int) -> None:
        self._directory, self._part_size = directory, part_size
        self._out: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._size = 0
        self.parts: list[Part] = []
        self.written = 0

    def write(self, data: bytes) -> None:
        """Write the next bytes of the stream."""
        view = memoryview(data)
        while view:
            piece = view[: self._part_size - self._size]
            self._write(piece)
            view = view[len(piece) :]

    def _write(self, piece: memoryview) -> None:
        if self._out is None:
            self._out = (self._directory / self._name).open("wb")
        self._out.write(piece)
        self._hash.update(piece)
        self._size += len(piece)
        self.written += len(piece)
        if self._size == self._part_size:
            self.end()

    def end(self) -> None:
        """Finish the current part, if there is one."""
        if self._out is None:
            return
        _sync(self._out)
        self._out.close()
        self.parts.append(Part(self._name, self._size, self._hash.hexdigest()))
        self._out, self._hash, self._size = None, hashlib.sha256(), 0

    @property
    def _name(self) -> str:
        return f"part-{len(self.parts):04d}"


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Remove an earlier bundle, and mark the directory until the new one is complete.

    Raises:
        UsageError: the directory has other content, or another run is writing there.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: not a directory", remedy="name another directory with --out DIR")
    out.mkdir(parents=True, exist_ok=True)
    found = [path.name for path in out.iterdir()]
    known = {_MARK, document.NAME} & set(found)
    foreign = sorted(name for name in found if not _OURS.fullmatch(name))
    if found and (foreign or not known):
        raise UsageError(
            f"{out}: not empty, and not only a bundle: {', '.join((foreign or found)[:3])}",
            remedy="name another directory with --out DIR",
        )
    descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{out}: another bundle is being written there",
                remedy="wait for it, or name another directory with --out DIR",
            ) from None
        # In this order: at no time is there a document without all of its parts.
        (out / _MARK).touch()
        (out / document.NAME).unlink(missing_ok=True)
        for name in found:
            if name != _MARK:
                (out / name).unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def finish(out: Path, content: bytes) -> None:
    """Write the document: from then on the directory is a bundle."""
    # The mark itself is renamed to the document: there is no moment with both, or with neither.
    put(out / _MARK, content, 0o644)
    (out / _MARK).replace(out / document.NAME)


def put(path: Path, content: bytes, mode: int) -> None:
    """Write a file with a mode that no umask changes, and sync it to disk."""
    with path.open("wb") as out:
        out.write(content)
        _sync(out)
        os.fchmod(out.fileno(), mode)


def _sync(out: IO[bytes]) -> None:
    out.flush()
    os.fsync(out.fileno())
