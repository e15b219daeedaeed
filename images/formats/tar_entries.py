"""Entries of a layer from the tar of a root file system."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, cast

from images.errors import IntegrityError
from images.oci.layer.entry import Entry
from images.util import untrusted_files


def entries(tar: Path) -> Iterator[Entry]:
    """Yield the members of an uncompressed tar, sorted by path, directories before their content.

    Owners and permission bits are kept; times are not part of an entry. Device nodes are left out:
    a container engine makes its own. Of a file's several names, the first in this order becomes
    the file and the others become hard links to it.

    Raises:
        IntegrityError: the tar is broken or holds a member that a layer cannot have.
    """
    try:
        with tarfile.open(tar, "r:", encoding="utf-8") as archive:
            members = [member for member in archive if not member.ischr() and not member.isblk()]
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:
        raise IntegrityError(f"{tar}: cannot be read as a tar: {error}") from error
    found = [_entry_of(member, tar) for member in members]
    named = [entry for entry in found if (entry.path, entry.kind) != (".", "dir")]
    yield from sorted(_relinked(named), key=_order)


def _order(entry: Entry) -> list[str]:
    return entry.path.split("/")


def _entry_of(member: tarfile.TarInfo, tar: Path) -> Entry:
    path = str(PurePosixPath(member.name))
    mode, uid, gid = member.mode & 0o7777, member.uid, member.gid
    if member.isdir():
        return Entry(path, "dir", mode, uid=uid, gid=gid)
    if member.issym():
        return Entry(path, "symlink", 0o777, target=member.linkname, uid=uid, gid=gid)
    if member.islnk():
        target = str(PurePosixPath(member.linkname))
        return Entry(path, "hardlink", mode, target=target, uid=uid, gid=gid)
    if member.isreg() and not member.issparse():
        start, size = member.offset_data, member.size
        return Entry(path, "file", mode, size, lambda: part(tar, start, size), uid=uid, gid=gid)
    raise IntegrityError(f"{tar}: {member.name}: a layer cannot hold this kind of member")


def _relinked(found: list[Entry]) -> Iterator[Entry]:
    """Yield the entries, each hard link pointing to the first of its file's names by path."""
    files = {entry.path: entry for entry in found if entry.kind == "file"}
    names: dict[str, list[Entry]] = {}
    for entry in found:
        if entry.kind == "hardlink":
            if entry.target not in files:
                raise IntegrityError(
                    f"{entry.path}: a hard link to {entry.target}, which is not a file"
                )
            names.setdefault(entry.target, [files[entry.target]]).append(entry)
    for entry in found:
        if entry.path not in names and entry.kind != "hardlink":
            yield entry
    for target, group in names.items():
        first, *others = sorted(group, key=_order)
        yield replace(files[target], path=first.path)
        for other in others:
            yield replace(other, kind="hardlink", target=first.path)


class _Slice(io.RawIOBase):
    """A part of a file as a stream of its own."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = untrusted_files.open_regular(path)
        self._file.seek(start)
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._file.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def part(path: Path, start: int, size: int) -> IO[bytes]:
    """Return a part of a file as a stream of its own.

    Args:
        path: the file.
        start: of the first byte.
        size: bytes.
    """
    return cast("IO[bytes]", io.BufferedReader(_Slice(path, start, size), 1 << 18))
