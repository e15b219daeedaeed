"""The project's own layers as files of a directory: what a container of the image would see.

Layers may be applied in any order and several at a time; the highest wins, as if they were applied
lowest first. Only types of members that our own layers have are supported; others are refused by
name, and so is a member that would be written outside of the directory. Layers of a custom base are
applied before (base_layers.py).
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Iterator

from images.errors import IntegrityError
from images.oci.layer.tar_stream import REGULAR, TarStream
from images.unbundle.destinations.member_files import (
    SPARE,
    Manner,
    Record,
    create,
    finish,
    own,
    writable,
)

_KINDS = {tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.LNKTYPE: "f"}
_KINDS.update(dict.fromkeys(REGULAR, "f"))


class Tree:
    """The directory and the layers applied to it; no other process writes there meanwhile.

    Args:
        root: the directory; it exists.
        resumed: whether an earlier run may have left files of unfinished layers.
        setuid: whether set-uid and set-gid bits of files are kept. The directory is its owner's
            alone then: see `Manner`.
    """

    def __init__(self, root: Path, *, resumed: bool = False, setuid: bool = False) -> None:
        self.root, self.resumed = root, resumed
        # For files that a higher layer replaced while their own layer may still link to them.
        self._spare = root / SPARE
        self.writers: dict[int, _Writer] = {}
        self.manner = Manner(os.geteuid() == 0, setuid)
        if setuid:
            root.chmod(0o700)
        self.lock = threading.Lock()
        # For each path the highest layer that has it, and its kind there.
        self.owners: dict[str, tuple[int, str]] = {"": (-1, "d")}
        self._modes: dict[str, tuple[int, int]] = {}

    def apply(self, number: int, pieces: Iterator[bytes | memoryview]) -> Record:
        """Write the files of layer `number`, counted from the lowest.

        Args:
            number: its position; lower layers do not overwrite its files.
            pieces: its tar.

        Raises:
            IntegrityError: it is not a tar, has a member that our own layers never have, or would
                write outside of the directory.
            OSError: the file system reports an error.
        """
        writer = self.writers[number] = _Writer(self, number)
        tar = TarStream(pieces)
        try:
            for member in tar.members():
                with writable(member):
                    writer.add(member, tar)
        finally:
            with self.lock:
                del self.writers[number]
            writer.drop_covered()
        return writer.record

    def restore(self, number: int, record: Record) -> None:
        """Restore what an earlier run recorded of a finished layer."""
        for name, (kind, mode) in record.items():
            if self.owners.get(name, (-1, kind))[0] <= number:
                self.owners[name] = (number, kind)
            if kind == "d":
                self.set_mode(name, number, mode)

    def set_mode(self, name: str, number: int, mode: int) -> bool:
        """Set a directory's mode unless a higher layer has set it; return whether it was set."""
        if self._modes.get(name, (-1, 0))[0] > number:
            return False
        self._modes[name] = (number, mode)
        return True

    def covered(self, writer: _Writer, name: str) -> Path:
        """Return a path, outside of the image's files, for a file of `writer` that is replaced."""
        with suppress(FileExistsError):
            self._spare.mkdir(mode=0o700)
        if not stat.S_ISDIR(self._spare.lstat().st_mode):
            raise IntegrityError(f"{self._spare}: not a directory of the unpacker's")
        path = self._spare / f"{writer.number}-{len(writer.covered)}"
        with suppress(FileNotFoundError):
            path.unlink()
        writer.covered[name] = path
        return path

    def finish(self) -> None:
        """Set the modes of directories; a read-only one could not be filled before."""
        if self._spare.exists():
            shutil.rmtree(self._spare)
        for name in sorted(self._modes, reverse=True):
            (self.root / name).chmod(self._modes[name][1])
        # No layer lists the root itself, and a umask must not lock users of the image out.
        self.root.chmod(0o700 if self.manner.setuid else 0o755)


class _Writer:
    """A layer whose members are written."""

    def __init__(self, tree: Tree, number: int) -> None:
        self._tree, self.number = tree, number
        self.covered: dict[str, Path] = {}
        self.record: Record = {}

    def add(self, member: tarfile.TarInfo, tar: TarStream) -> None:
        name = _checked(member.name, member.name)
        kind = _KINDS.get(member.type)
        if name.rpartition("/")[2].startswith(".wh."):
            raise IntegrityError(f"{member.name}: a whiteout, which only custom bases may have")
        if kind is None or member.issparse():
            raise IntegrityError(f"{member.name}: unsupported type of member ({member.type!r})")
        if kind == "d":
            self._directory(name, member)
        elif member.type == tarfile.SYMTYPE:
            self._symlink(name, member)
        elif member.type == tarfile.LNKTYPE:
            self._link(name, member)
        else:
            self._file(name, member, tar)
        self.record[name] = (kind, member.mode & 0o7777)

    def drop_covered(self) -> None:
        """Remove files that were kept only as targets of hard links."""
        for path in self.covered.values():
            with suppress(FileNotFoundError):
                path.unlink()

    def _directory(self, name: str, member: tarfile.TarInfo) -> None:
        tree, path = self._tree, self._tree.root / name
        with tree.lock:
            owner = self._allowed(name, "d", member.name)
            if owner is None:
                self._make_directory(path)
            if tree.set_mode(name, self.number, member.mode & 0o7777):
                tree.owners[name] = (self.number, "d")
                self._own(path, member)

    def _make_directory(self, path: Path) -> None:
        try:
            path.mkdir(0o700)
        except FileExistsError:
            if not self._tree.resumed:
                raise
            if not stat.S_ISDIR(path.lstat().st_mode):
                path.unlink()
                path.mkdir(0o700)

    def _file(self, name: str, member: tarfile.TarInfo, tar: TarStream) -> None:
        with self._tree.lock:
            path = self._free(name, "f", member.name)
            descriptor = create(path)
        finish(descriptor, member, tar, self._tree.manner)

    def _symlink(self, name: str, member: tarfile.TarInfo) -> None:
        with self._tree.lock:
            path = self._free(name, "l", member.name)
            path.symlink_to(member.linkname)
            self._own(path, member)

    def _link(self, name: str, member: tarfile.TarInfo) -> None:
        target = _checked(member.linkname, member.name)
        # In this layer: the file of another may not be there yet, or may be replaced already.
        if self.record.get(target, ("", 0))[0] != "f":
            raise IntegrityError(
                f"{member.name}: a hard link to {target}, which is not a file of its layer"
            )
        with self._tree.lock:
            source = self.covered.get(target, self._tree.root / target)
            os.link(source, self._free(name, "f", member.name), follow_symlinks=False)

    def _free(self, name: str, kind: str, member: str) -> Path:
        """Return the path at which to create a file or link, and remove what is there."""
        tree = self._tree
        owner = self._allowed(name, kind, member)
        path = tree.root / name
        if owner is not None and owner > self.number:
            return tree.covered(self, name)
        below = tree.writers.get(-1 if owner is None else owner)
        with suppress(FileNotFoundError):
            if below is not None and below is not self:
                # Its layer is still being written and may link to it.
                path.replace(tree.covered(below, name))
            elif owner is not None or tree.resumed:
                path.unlink()
        tree.owners[name] = (self.number, kind)
        return path

    def _allowed(self, name: str, kind: str, member: str) -> int | None:
        """Return the layer that has this path now, if any; no link above it is ever followed."""
        owners = self._tree.owners
        parent = name.rpartition("/")[0]
        if parent not in owners:
            raise IntegrityError(f"{member}: its directory is in no layer")
        if owners[parent][1] != "d":
            raise IntegrityError(f"{member}: {parent} is not a directory")
        if name not in owners:
            return None
        number, found = owners[name]
        if (found == "d") != (kind == "d"):
            raise IntegrityError(f"{member}: a directory in one layer and not in another")
        return number

    def _own(self, path: Path, member: tarfile.TarInfo) -> None:
        if self._tree.manner.as_root:
            own(path, member)


def _checked(path: str, member: str) -> str:
    """Return a path of a tar relative to the root; refuse one that leads out of the image."""
    parts = [part for part in path.split("/") if part != "."]
    if parts and not parts[-1]:
        parts.pop()  # a directory may end in a slash
    if any(part in ("", "..") for part in parts) or not parts or parts[0] == SPARE:
        raise IntegrityError(f"{member!r}: leads out of the image")
    return "/".join(parts)
