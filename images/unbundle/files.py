"""Single files of layers, as all who write them do it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Dict, Tuple

from images.unbundle.tar import TarStream

Record = Dict[str, Tuple[str, int]]
"""What a layer put into a tree: for each path its kind (d, f or l) and its mode."""

SPARE = ".unpack-covered"
"""A name in the image's root that only the unpacker uses."""


def create(path: Path) -> int:
    """Make a file that was not there, and follow no link; gives its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def fill(path: Path, member: tarfile.TarInfo, tar: TarStream, as_root: bool) -> None:
    """Make a file with the content of the member that came last."""
    finish(create(path), member, tar, as_root)


def finish(descriptor: int, member: tarfile.TarInfo, tar: TarStream, as_root: bool) -> None:
    """Write a file's content, its owner if we may, its mode and its time; it is closed then."""
    try:
        for piece in tar.content(member):
            _write(descriptor, piece)
        if as_root:
            os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode & 0o7777)
        os.utime(descriptor, (member.mtime, member.mtime))
    finally:
        os.close(descriptor)


def own(path: Path, member: tarfile.TarInfo) -> None:
    """Give a directory or a link its owner."""
    os.chown(path, member.uid, member.gid, follow_symlinks=False)


def _write(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]
