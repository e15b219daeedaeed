"""Writing single files of layers, for all destinations that are directories."""

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
"""The paths of a layer, each with its kind (d, f or l) and mode."""

SPARE = ".unpack-covered"
"""A name in the image's root that is reserved by the unpacker."""

SET_ID = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True)
class Manner:
    """Owners and modes of written files.

    Attributes:
        as_root: whether owners are kept.
        setuid: whether set-uid and set-gid bits of files are kept. A directory on a host is not a
            container: its programs would give their owner's rights to every user of the host, and
            would not get the security updates of the host's own copies. No use of an unpacked image
            needs the bits.
    """

    as_root: bool
    setuid: bool

    def mode(self, member: tarfile.TarInfo) -> int:
        """Return the permission bits that a file gets."""
        return member.mode & (0o7777 if self.setuid else 0o7777 & ~SET_ID)


@contextmanager
def writable(member: tarfile.TarInfo) -> Iterator[None]:
    """Refuse a member with a name or number that the system cannot store, as a NUL or infinity.

    Raises:
        IntegrityError: it has one.
    """
    try:
        yield
    except (ValueError, OverflowError) as error:
        raise IntegrityError(f"{member.name}: cannot be written: {error}") from error


def create(path: Path) -> int:
    """Create a new file without following a link; return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def fill(path: Path, member: tarfile.TarInfo, tar: TarStream, manner: Manner) -> None:
    """Create a file with the content of the tar's current member."""
    finish(create(path), member, tar, manner)


def finish(descriptor: int, member: tarfile.TarInfo, tar: TarStream, manner: Manner) -> None:
    """Write a file's content, owner (as root), mode and time, and close it."""
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
    """Set the owner of a directory or a link."""
    os.chown(path, member.uid, member.gid, follow_symlinks=False)


def _write(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]
