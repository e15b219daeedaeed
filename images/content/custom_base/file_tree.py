"""The files of an image, its layers applied one over the other, without unpacking anything.

Specification: OCI Image Format 1.1, layer.md, "Applying Changesets" and "Whiteouts". Only the kind
of each file is kept, and the content of the few files that are asked for.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from images.oci.layer.tar_stream import REGULAR, TarStream
from images.util import limits

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MOST_LINKS = 40  # symbolic links followed on one path, as Linux does

Wanted = Callable[[str], int]
"""How many bytes of a file's content to keep, by its path; 0 for none."""


@dataclass(slots=True)
class Node:
    """A file, directory or link.

    Attributes:
        kind: `file`, `dir`, `symlink`, or `other` for devices and pipes.
        layer: number of the layer that last touched it or something below it.
        target: of a symbolic link.
        content: the first bytes of a file, as many as were asked for.
        children: of a directory, by name.
    """

    kind: str
    layer: int = 0
    target: str = ""
    content: bytes = b""
    children: dict[str, Node] = field(default_factory=dict)


class Tree:
    """The files of an image.

    Args:
        wanted: how much of each file's content is kept.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._root = Node("dir")
        self._wanted = wanted
        self._layer = 0
        self._made = self._kept = 0

    def add_layer(self, pieces: Iterator[bytes]) -> None:
        """Put the next layer on top.

        Args:
            pieces: its tar; it is read to its end.

        Raises:
            IntegrityError: it is not a tar, or is over a limit.
        """
        self._layer += 1
        tar = TarStream(pieces)
        for member in tar.members():
            path = posixpath.normpath("/" + member.name).lstrip("/")
            if path:
                self._apply(path, member, tar)

    def _apply(self, path: str, member: tarfile.TarInfo, tar: TarStream) -> None:
        directory, name = posixpath.split(path)
        parent = self._directory(directory)
        if name == _OPAQUE:
            self._hide_lower(parent)
        elif name.startswith(_WHITEOUT):
            self._remove_lower(parent, name.removeprefix(_WHITEOUT))
        elif member.isdir():
            self._step(parent, name)
        else:
            self._count()
            parent.children[name] = self._leaf(path, member, tar)

    def _leaf(self, path: str, member: tarfile.TarInfo, tar: TarStream) -> Node:
        if member.issym():
            return Node("symlink", self._layer, member.linkname)
        if member.islnk():
            first = self._at(posixpath.normpath("/" + member.linkname).lstrip("/"))
            return Node("file", self._layer, content=first.content if first else b"")
        if member.type not in REGULAR:
            return Node("other", self._layer)
        content = b""
        if limit := self._wanted(path):
            for piece in tar.content(member):
                content += bytes(piece[: limit - len(content)])
            self._kept += len(content)
            limits.check_count("the layers", self._kept, limits.KEPT, "bytes of system files")
        return Node("file", self._layer, content=content)

    def _directory(self, path: str) -> Node:
        """Return the directory at a path, made where there is none; links in it are followed."""
        node = self._root
        node.layer = self._layer
        parts = [part for part in path.split("/") if part]
        for depth, name in enumerate(parts, 1):
            child = node.children.get(name)
            if child is not None and child.kind == "symlink":
                real = self.resolve("/".join(parts[:depth]))
                found = self._at(real) if real else None
                child = found if found and found.kind == "dir" else child
            node = self._step(node, name) if child is None or child.kind != "dir" else child
            node.layer = self._layer
        return node

    def _step(self, parent: Node, name: str) -> Node:
        child = parent.children.get(name)
        if child is None or child.kind != "dir":
            self._count()
            child = parent.children[name] = Node("dir")
        child.layer = self._layer
        return child

    def _count(self) -> None:
        """Count one more file or directory, whether it stays or not: each is kept in memory."""
        self._made += 1
        limits.check_count("the layers", self._made, limits.LAYER_FILES, "files")

    def _hide_lower(self, directory: Node) -> None:
        for name in list(directory.children):
            self._remove_lower(directory, name)

    def _remove_lower(self, directory: Node, name: str) -> None:
        """Remove what lower layers have: a whiteout never hides files of its own layer."""
        child = directory.children.get(name)
        if child is not None and child.layer < self._layer:
            del directory.children[name]
        elif child is not None and child.kind == "dir":
            self._hide_lower(child)

    def _at(self, path: str) -> Node | None:
        node = self._root
        for name in filter(None, path.split("/")):
            child = node.children.get(name)
            if child is None:
                return None
            node = child
        return node

    # -- queries -----------------------------------------------------------------------------------

    def kind(self, path: str) -> str | None:
        """Return the kind of what is at a path, a link as such; None if there is nothing."""
        directory, name = posixpath.split(path.strip("/"))
        real = self.resolve(directory)
        parent = self._at(real) if real is not None else None
        child = parent.children.get(name) if parent else None
        return child.kind if child else None

    def resolve(self, path: str) -> str | None:
        """Return a path with all links in it followed, without a leading `/`; None if broken.

        As in a container: an absolute link starts at the image's root, and `..` ends there.
        """
        todo = [part for part in path.split("/") if part][::-1]
        done: list[str] = []
        links = 0
        while todo:
            name = todo.pop()
            if name == ".":
                continue
            if name == "..":
                done = done[:-1]
                continue
            node = self._at("/".join([*done, name]))
            if node is None:
                return None
            if node.kind != "symlink":
                done.append(name)
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            done = [] if node.target.startswith("/") else done
            todo += [part for part in node.target.split("/") if part][::-1]
        return "/".join(done)

    def is_file(self, path: str) -> bool:
        """Return whether a path leads to a file."""
        real = self.resolve(path)
        node = self._at(real) if real else None
        return node is not None and node.kind == "file"

    def content(self, path: str) -> bytes:
        """Return the kept content of the file that a path leads to; empty if there is none."""
        real = self.resolve(path)
        node = self._at(real) if real else None
        return node.content if node is not None else b""

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; none if it does not exist."""
        real = self.resolve(path)
        node = self._at(real) if real is not None else None
        return sorted(node.children) if node else []
