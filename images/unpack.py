"""An image of the store as a directory: the root file system that a container of it would see.

For tests where there is no Docker. Only what our own layers hold is supported; the rest is refused
by name, and so is a member that would be written outside the directory.
"""

from __future__ import annotations

import os
import queue
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from images.docker_archive import unpacked
from images.errors import IntegrityError, StoreError, UsageError
from images.image import Image
from images.layer import Blob
from images.progress import Meter, Progress
from images.store import Store

_CHUNK = 1 << 20
_AHEAD = 8  # pieces that are decompressed before they are written


def unpack(store: Store, image: Image, destination: Path, progress: Progress) -> None:
    """Write the files of all layers into a directory.

    As root, owners are kept; otherwise all files belong to the user.

    Args:
        store: where the layers are.
        image: the image.
        destination: an empty directory, or one to make.
        progress: told of the compressed bytes.

    Raises:
        UsageError: the destination is not an empty directory.
        IntegrityError: a layer is damaged, holds something that ours never hold, or would write
            outside of the destination.
        StoreError: the file system of the destination is full or read-only.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UsageError(f"{destination}: not an empty directory", remedy="name another one")
    try:
        destination.mkdir(parents=True, exist_ok=True)
        with progress.stage("unpack", image.size) as meter:
            tree = _Tree(destination)
            for layer in image.layers:
                _apply(tree, store, layer.blob, meter)
            tree.finish()
    except OSError as error:
        raise StoreError(f"{destination}: cannot be written: {error}") from error


def _apply(tree: _Tree, store: Store, blob: Blob, meter: Meter) -> None:
    with _Ahead(unpacked(store, blob)) as pieces:
        try:
            # Through tarfile's stream mode: the tar is read once, from front to back.
            with tarfile.open(fileobj=cast("IO[bytes]", pieces), mode="r|", bufsize=_CHUNK) as tar:
                for member in tar:
                    tree.add(tar, member)
        except tarfile.TarError as error:
            raise IntegrityError(f"layer {blob.digest}: not a tar: {error}") from error
    meter.advance(blob.size)


class _Tree:
    """The directory, and what was put into it; nobody else writes there meanwhile."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._as_root = os.geteuid() == 0
        self._kinds: dict[str, bytes] = {"": tarfile.DIRTYPE}
        self._modes: dict[str, int] = {}

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Write one member."""
        name = _checked(member.name, member.name)
        self._check_parent(name, member.name)
        base = name.rpartition("/")[2]
        if base.startswith(".wh."):
            raise IntegrityError(f"{member.name}: layers of ours never remove files")
        kind = tarfile.REGTYPE if member.isreg() else member.type
        path = self._root / name
        before = self._kinds.get(name)
        if before == tarfile.DIRTYPE != kind:
            raise IntegrityError(f"{member.name}: a directory of a layer below")
        if before is not None and before != tarfile.DIRTYPE:
            path.unlink()
        if kind == tarfile.DIRTYPE:
            self._directory(path, name, member)
        elif kind == tarfile.REGTYPE:
            self._file(path, tar, member)
        elif kind == tarfile.SYMTYPE:
            path.symlink_to(member.linkname)
            self._own(path, member)
        elif kind == tarfile.LNKTYPE:
            self._link(path, member)
            kind = tarfile.REGTYPE
        else:
            raise IntegrityError(f"{member.name}: layers of ours hold no such member ({kind!r})")
        self._kinds[name] = kind

    def finish(self) -> None:
        """Give directories their modes; a read-only one could not be filled before."""
        for name in sorted(self._modes, reverse=True):
            (self._root / name).chmod(self._modes[name])

    def _check_parent(self, name: str, said: str) -> None:
        """What lies above a path must be a directory that a layer listed: no link is followed."""
        parent = name.rpartition("/")[0]
        kind = self._kinds.get(parent)
        if kind is None:
            raise IntegrityError(f"{said}: its directory is in no layer")
        if kind != tarfile.DIRTYPE:
            raise IntegrityError(f"{said}: {parent} is not a directory")

    def _directory(self, path: Path, name: str, member: tarfile.TarInfo) -> None:
        if name not in self._kinds:
            path.mkdir(0o700)
        self._own(path, member)
        self._modes[name] = member.mode & 0o7777

    def _file(self, path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        content = tar.extractfile(member)
        if content is None:
            raise IntegrityError(f"{member.name}: has no content")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with content, os.fdopen(descriptor, "wb", buffering=0) as out:
            left = member.size
            while left:
                piece = content.read(min(left, _CHUNK))
                if not piece:
                    raise IntegrityError(f"{member.name}: its content is cut off")
                left -= len(piece)
                _write(out, piece)
            if self._as_root:
                os.fchown(descriptor, member.uid, member.gid)
            os.fchmod(descriptor, member.mode & 0o7777)
            os.utime(descriptor, (member.mtime, member.mtime))

    def _link(self, path: Path, member: tarfile.TarInfo) -> None:
        target = _checked(member.linkname, member.name)
        if self._kinds.get(target) != tarfile.REGTYPE:
            raise IntegrityError(f"{member.name}: a hard link to {target}, which is not a file")
        path.hardlink_to(self._root / target)

    def _own(self, path: Path, member: tarfile.TarInfo) -> None:
        if self._as_root:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)


def _write(out: IO[bytes], piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[out.write(view) :]


def _checked(path: str, said: str) -> str:
    """A path of a tar, relative to the root; refused if it leads out of it."""
    parts = [part for part in path.split("/") if part != "."]
    if parts and not parts[-1]:
        parts.pop()  # a directory may end in a slash
    if any(part in ("", "..") for part in parts) or not parts:
        raise IntegrityError(f"{said!r}: leads out of the image")
    return "/".join(parts)


class _Ahead:
    """A stream of pieces that a thread makes a little ahead of the reader."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._rest = memoryview(b"")
        self._ended = False

    def __enter__(self) -> _Ahead:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
        self._thread.join()

    def _fill(self) -> None:
        try:
            for piece in self._pieces:
                if self._stop.is_set():
                    return
                self._queue.put(piece)
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def read(self, amount: int) -> bytes:
        """At most `amount` bytes; fewer only at the end or between pieces."""
        if not self._rest and not self._ended:
            found = self._queue.get()
            if isinstance(found, BaseException):
                raise found
            self._ended = found is None
            self._rest = memoryview(found or b"")
        piece, self._rest = self._rest[:amount], self._rest[amount:]
        return bytes(piece)
