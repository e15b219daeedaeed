"""The layers of a custom base as files of a directory, each applied to the one below.

Specification: OCI Image Format 1.1, layer.md, "Applying Changesets" and "Whiteouts". Such layers
come from other tools: they remove files, write through links, and leave directories out. So unlike
our own (layer_tree.py) they are applied one at a time, lowest first, and before our own. A layer
that was interrupted may be applied again. Devices are left out: a container engine provides them.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Iterator

from images.errors import IntegrityError
from images.oci.layer.tar_stream import REGULAR, TarStream
from images.unbundle.destinations.member_files import SPARE, Manner, Record, fill, own, writable

WHITEOUT = ".wh."
MARK = ".wh..wh."
"""Prefix of metadata of AUFS and other tools; only the next one has a meaning here."""

OPAQUE = ".wh..wh..opq"
MOST_LINKS = 40  # symbolic links followed on one path, as Linux does
_XATTR = "SCHILY.xattr."
_CAPABILITY = f"{_XATTR}security.capability"
DIRECTORY_MODE = 0o755  # of a directory that no layer lists


class Changes:
    """The directory; no other process writes there meanwhile.

    Args:
        root: the directory; it exists.
        setuid: whether set-uid and set-gid bits of files, and file capabilities, are kept.
    """

    def __init__(self, root: Path, *, setuid: bool = False) -> None:
        self._root = root
        self._manner = Manner(os.geteuid() == 0, setuid)
        self._modes: dict[str, int] = {}
        self._own: set[str] = set()
        self._record: Record = {}

    def apply(self, pieces: Iterator[bytes | memoryview]) -> Record:
        """Apply the next layer, and return its directories, for `restore`.

        Args:
            pieces: its tar; it is read to its end.

        Raises:
            IntegrityError: it is not a tar, or has a member that cannot be written.
            OSError: the file system reports an error.
        """
        self._own, self._record = set(), {}
        tar = TarStream(pieces)
        for member in tar.members():
            with writable(member):
                self._add(member, tar)
        return self._record

    def restore(self, record: Record) -> None:
        """Restore what an earlier run recorded of a layer; lowest first."""
        self._modes.update((name, mode) for name, (_, mode) in record.items())

    def whole(self) -> Record:
        """Return all entries that are there now, for the layers above."""
        found: Record = {}
        for directory, names, files in os.walk(self._root):
            for name in (*names, *files):
                path = posixpath.join(directory, name)
                inside = os.path.relpath(path, self._root)
                mode = os.lstat(path).st_mode
                if stat.S_ISDIR(mode):
                    found[inside] = ("d", self._modes.get(inside, DIRECTORY_MODE))
                else:
                    found[inside] = ("l" if stat.S_ISLNK(mode) else "f", stat.S_IMODE(mode))
        return found

    # -- members -----------------------------------------------------------------------------------

    def _add(self, member: tarfile.TarInfo, tar: TarStream) -> None:
        directory, name = posixpath.split(inside(member.name))
        if not name:
            return  # the root itself: see Tree.finish
        parent = self._directory(directory, member.name)
        if name.startswith(WHITEOUT):
            self._white_out(parent, name, member.name)
            return
        path = posixpath.join(parent, name)
        if path == SPARE:
            raise IntegrityError(f"{member.name!r}: a name reserved by the unpacker")
        if member.isdir():
            self._make_directory(path, member.mode & 0o7777)
        else:
            self._leaf(path, member, tar)
        self._mark(path)
        real = self._root / path
        if self._manner.as_root and (member.isdir() or member.issym()):
            own(real, member)
        if self._manner.as_root and not member.issym():
            _set_attributes(real, member, self._manner)

    def _leaf(self, path: str, member: tarfile.TarInfo, tar: TarStream) -> None:
        real = self._root / path
        source = self._linked(member) if member.islnk() else None
        if source == real:
            return
        _remove(real)
        if source is not None:
            os.link(source, real, follow_symlinks=False)
        elif member.issym():
            real.symlink_to(member.linkname)
        elif member.type in REGULAR and not member.issparse():
            fill(real, member, tar, self._manner)
        elif member.isfifo():
            os.mkfifo(real, member.mode & 0o7777)
        elif not member.isdev():
            raise IntegrityError(f"{member.name}: unsupported type of member ({member.type!r})")

    def _linked(self, member: tarfile.TarInfo) -> Path:
        """Return the target of a hard link; it may be in a lower layer."""
        directory, name = posixpath.split(inside(member.linkname))
        real = self._root / self._directory(directory, member.name) / name
        mode = _mode(real)
        if mode is None or not name or stat.S_ISDIR(mode):
            raise IntegrityError(f"{member.name}: a hard link to {member.linkname}, not a file")
        return real

    def _white_out(self, parent: str, name: str, member: str) -> None:
        """Remove what lower layers have, never what this layer contains."""
        if name == OPAQUE:
            self._hide_lower(parent)
        elif not name.startswith(MARK):
            gone = name[len(WHITEOUT) :]
            if gone in ("", ".", ".."):
                raise IntegrityError(f"{member!r}: removes no file of its directory")
            self._remove_lower(posixpath.join(parent, gone))

    def _hide_lower(self, directory: str) -> None:
        for name in os.listdir(self._root / directory):  # noqa: PTH208  # names, not paths
            self._remove_lower(posixpath.join(directory, name))

    def _remove_lower(self, path: str) -> None:
        real = self._root / path
        if path not in self._own:
            _remove(real)
        elif stat.S_ISDIR(_mode(real) or 0):
            self._hide_lower(path)

    # -- directories -------------------------------------------------------------------------------

    def _directory(self, path: str, member: str) -> str:
        """Return the resolved path of a directory, created if it is missing.

        Links in the path are followed as in a container: an absolute one starts at the image's
        root, and `..` ends there.
        """
        done: list[str] = []
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                done = done[:-1]
                continue
            here = "/".join([*done, name])
            mode = _mode(self._root / here)
            if mode is None or not (stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                self._make_directory(here, DIRECTORY_MODE)
            elif stat.S_ISLNK(mode):
                links += 1
                if links > MOST_LINKS:
                    raise IntegrityError(f"{member}: too many links in its path")
                target = os.readlink(self._root / here)  # as text
                done = [] if target.startswith("/") else done
                todo += target.split("/")[::-1]
                continue
            done.append(name)
        real = "/".join(done)
        self._mark(real)
        return real

    def _make_directory(self, path: str, mode: int) -> None:
        real = self._root / path
        if not stat.S_ISDIR(_mode(real) or 0):
            _remove(real)
            real.mkdir(0o700)  # until all layers are there: a read-only one could not be filled
        self._modes[path] = mode
        self._record[path] = ("d", mode)

    def _mark(self, path: str) -> None:
        """Record that this layer contains a path, and with it the path's parents."""
        while path and path not in self._own:
            self._own.add(path)
            path = posixpath.dirname(path)


def inside(path: str) -> str:
    """Return a path of a tar relative to the root; no `..` leads out of the root."""
    return posixpath.normpath("/" + path).lstrip("/")


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return None


def _remove(path: Path) -> None:
    mode = _mode(path)
    if mode is None:
        return
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def _set_attributes(path: Path, member: tarfile.TarInfo, manner: Manner) -> None:
    """Set file capabilities and other attributes, if the file system supports them."""
    for name, value in member.pax_headers.items():
        if name.startswith(_XATTR) and (manner.setuid or name != _CAPABILITY):
            with suppress(OSError):
                content = value.encode("utf-8", "surrogateescape")
                os.setxattr(path, name[len(_XATTR) :], content, follow_symlinks=False)
