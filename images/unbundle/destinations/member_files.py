"""Single files of layers, as all who write them do it."""

from __future__ import annotations

import os
import stat
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Tuple

from images.errors import IntegrityError
from images.oci.layer.tar_stream import TarStream

Record = Dict[str, Tuple[str, int]]
"""What a layer put into a tree: for each path its kind (d, f or l) and its mode."""

SPARE = ".unpack-covered"
"""A name in the image's root that only the unpacker uses."""

SET_ID = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True)
class Manner:
    """How files are written.

    Attributes:
        as_root: whether owners are kept.
        setuid: whether set-uid and set-gid bits of files are kept. A directory on a host is no
            container: its programs would give whoever can reach them their owner's rights there, by
            the host's libraries and long after the host's own copies were mended. Nothing that an
            unpacked image is used for needs the bits.
    """

    as_root: bool
    setuid: bool

    def mode(self, member: tarfile.TarInfo) -> int:
        """The permission bits that a file gets."""
        return member.mode & (0o7777 if self.setuid else 0o7777 & ~SET_ID)


@contextmanager
def writable(member: tarfile.TarInfo) -> Iterator[None]:
    """Refuse a member whose name or numbers the system has no place for: a NUL, a time of infinity.

    Raises:
        IntegrityError: it is such a one.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise IntegrityError(f"{member.name}: cannot be written: {error}") from error


def create(path: Path) -> int:
    """Make a file that was not there, and follow no link; gives its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def fill(path: Path, member: tarfile.TarInfo, tar: TarStream, manner: Manner) -> None:
    """Make a file with the content of the member that came last."""
    finish(create(path), member, tar, manner)


def finish(descriptor: int, member: tarfile.TarInfo, tar: TarStream, manner: Manner) -> None:
    """Write a file's content, its owner if we may, its mode and its time; it is closed then."""
    try:
        for piece in tar.content(member):
            _write(descriptor, piece)
        if manner.as_root:
            os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, manner.mode(member))
        os.utime(descriptor, (member.mtime, member.mtime))
    finally:
        os.close(descriptor)


def own(path: Path, member: tarfile.TarInfo) -> None:
    """Give a directory or a link its owner."""
    os.chown(path, member.uid, member.gid, follow_symlinks=False)


def _write(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]
