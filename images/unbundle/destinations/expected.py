"""The files that layers result in, without writing them: an unpacked image is compared with them.

Specification: OCI Image Format 1.1, layer.md, "Applying Changesets" and "Whiteouts". The rules are
those of base_layers.py, implemented a second time on purpose: a check by the code that wrote the
files would repeat its errors. Our own layers, which remove nothing, follow the same rules.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator

from images.errors import IntegrityError
from images.oci.layer.tar_stream import REGULAR, TarStream
from images.unbundle.destinations import base_layers
from images.unbundle.destinations.member_files import Manner
from images.unbundle.sources import inventory

_FROM_ENTER = ("etc/hosts", "etc/resolv.conf")
"""Empty files that DIR.enter makes to mount the host's on."""


@dataclass(frozen=True)
class Node:
    """The entry at a path.

    Attributes:
        kind: `file`, `dir`, `link`, or `other` for devices and pipes.
        mode: permission bits; 0 for a link.
        uid, gid: of the owner.
        size: bytes of a file.
        content: SHA-256 of a file if contents are hashed; the target of a link.
    """

    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    content: str = ""


class Expected:
    """The files of an image, according to its layers.

    Args:
        hashed: whether files' contents are hashed.
        setuid: whether set-uid and set-gid bits of files were kept.
    """

    def __init__(self, *, hashed: bool, setuid: bool) -> None:
        self._hashed = hashed
        self._manner = Manner(os.geteuid() == 0, setuid)
        self.nodes: dict[str, Node] = {"": Node("dir")}
        self._children: dict[str, set[str]] = {"": set()}
        self._own: set[str] = set()

    @property
    def as_root(self) -> bool:
        """True if owners are those of the layers."""
        return self._manner.as_root

    def apply(self, pieces: Iterator[bytes | memoryview]) -> None:
        """Apply the next layer.

        Raises:
            IntegrityError: it is not a tar.
        """
        self._own = set()
        tar = TarStream(pieces)
        for member in tar.members():
            directory, name = posixpath.split(base_layers.inside(member.name))
            if not name:
                continue
            parent = self._directory(directory)
            if name.startswith(base_layers.WHITEOUT):
                self._white_out(parent, name)
            else:
                self._put(posixpath.join(parent, name), self._node(member, tar))

    def _node(self, member: tarfile.TarInfo, tar: TarStream) -> Node:
        mode, uid, gid = member.mode & 0o7777, member.uid, member.gid
        if member.isdir():
            return Node("dir", mode, uid, gid)
        if member.issym():
            return Node("link", 0, uid, gid, 0, member.linkname)
        if member.islnk():
            directory, name = posixpath.split(base_layers.inside(member.linkname))
            target = posixpath.join(self._directory(directory), name)
            return self.nodes.get(target, Node("other"))
        if member.type not in REGULAR:
            return Node("other")
        found = hashlib.sha256()
        for piece in tar.content(member) if self._hashed else ():
            found.update(piece)
        content = found.hexdigest() if self._hashed else ""
        return Node("file", self._manner.mode(member), uid, gid, member.size, content)

    def _put(self, path: str, node: Node) -> None:
        if node.kind != "dir" or self.nodes.get(path, node).kind != "dir":
            self._remove(path)
        self.nodes[path] = node
        if node.kind == "dir":
            self._children.setdefault(path, set())
        self._children[posixpath.dirname(path)].add(path)
        self._mark(path)

    def _mark(self, path: str) -> None:
        while path and path not in self._own:
            self._own.add(path)
            path = posixpath.dirname(path)

    def _directory(self, path: str) -> str:
        """Return the resolved path of a directory, created if it is missing; links are followed."""
        done = ""
        todo, links = path.split("/")[::-1], 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                done = posixpath.dirname(done)
                continue
            here = posixpath.join(done, name)
            node = self.nodes.get(here)
            if node is not None and node.kind == "link":
                links += 1
                if links > base_layers.MOST_LINKS:
                    raise IntegrityError(f"{path}: too many links on its path")
                done = "" if node.content.startswith("/") else done
                todo += node.content.split("/")[::-1]
                continue
            if node is None or node.kind != "dir":
                self._put(here, Node("dir", base_layers.DIRECTORY_MODE))
            done = here
        self._mark(done)
        return done

    def _white_out(self, parent: str, name: str) -> None:
        if name == base_layers.OPAQUE:
            self._hide_lower(parent)
        elif not name.startswith(base_layers.MARK):
            self._remove_lower(posixpath.join(parent, name[len(base_layers.WHITEOUT) :]))

    def _hide_lower(self, directory: str) -> None:
        for path in list(self._children[directory]):
            self._remove_lower(path)

    def _remove_lower(self, path: str) -> None:
        if path not in self._own:
            self._remove(path)
        elif path in self._children:
            self._hide_lower(path)

    def _remove(self, path: str) -> None:
        if self.nodes.pop(path, None) is not None:
            self._children[posixpath.dirname(path)].discard(path)
            for child in self._children.pop(path, ()):
                self._remove(child)


def missing(root: Path, expected: Expected) -> list[str]:
    """Return the paths that a directory lacks or has as another kind; sorted."""
    return [
        path
        for path, node in sorted(expected.nodes.items())
        if node.kind != "other" and _kind(root / path) != node.kind
    ]


def differences(root: Path, expected: Expected) -> Iterator[str]:
    """Yield a line for each difference between a directory and its layers: `changed: etc/passwd`.

    Args:
        root: the directory.
        expected: its files, with hashed contents.
    """
    as_root = expected.as_root
    lacking = set(missing(root, expected))
    yield from (f"missing: {path}" for path in sorted(lacking))
    for path, node in sorted(expected.nodes.items()):
        if path and path not in lacking and node.kind != "other":
            what = _difference(root / path, node, as_root)
            if what:
                yield f"{what}: {path}"
    yield from (f"added: {path}" for path in _added(root, expected))


def _difference(path: Path, node: Node, as_root: bool) -> str:
    found = path.lstat()
    there = replace(node, mode=0 if node.kind == "link" else stat.S_IMODE(found.st_mode))
    if as_root:
        there = replace(there, uid=found.st_uid, gid=found.st_gid)
    if there != node:
        return "other mode or owner"
    if node.kind == "link":
        return "" if os.readlink(path) == node.content else "changed"
    if node.kind == "dir":
        return ""
    same = found.st_size == node.size and inventory.sha256(str(path)) == node.content
    return "" if same else "changed"


def _added(root: Path, expected: Expected) -> Iterator[str]:
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted([*names, *files]):
            found = Path(directory, name)
            path = str(found.relative_to(root))
            node = expected.nodes.get(path)
            if node is None and not (path in _FROM_ENTER and found.lstat().st_size == 0):
                yield path
                if name in names:
                    names.remove(name)  # not listed again for each path in it


def _kind(path: Path) -> str:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    kinds = {stat.S_IFDIR: "dir", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(mode), "other")
