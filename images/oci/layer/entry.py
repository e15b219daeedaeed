"""One member of a layer, before it becomes a tar member.

Whatever brings files into an image (a wheel, a .deb, the base's tar) gives an iterable of `Entry`;
`layer.py` alone turns entries into bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Literal

Kind = Literal["file", "dir", "symlink", "hardlink"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or link of a layer.

    Attributes:
        path: relative to the image's root, POSIX separators, no leading slash, no `.` or `..`.
        kind: what it is.
        mode: permission bits only (for links they are ignored).
        size: bytes of content; 0 unless `kind` is `file`.
        open: gives the content as a readable binary stream of exactly `size` bytes.
        target: where a link points: for a symlink as it is written in the link, for a hard link
            the `path` of an entry of the same layer.
        uid: numeric owner.
        gid: numeric group.
    """

    path: str
    kind: Kind = "file"
    mode: int = 0o644
    size: int = 0
    open: Callable[[], IO[bytes]] = io.BytesIO
    target: str = ""
    uid: int = 0
    gid: int = 0


def is_whiteout(path: str) -> bool:
    """Whether an engine takes a path for an order to remove what a lower layer has.

    OCI Image Format 1.1, layer.md, "Whiteouts" and "Opaque Whiteout"; AUFS, from which they come,
    has more names, all of which begin alike.
    """
    return path.startswith(".wh.") or "/.wh." in path


def of_bytes(path: str, content: bytes, mode: int = 0o644) -> Entry:
    """A file entry whose content is in memory."""
    return Entry(path, "file", mode, len(content), lambda: io.BytesIO(content))


def of_symlink(path: str, target: str) -> Entry:
    """A symbolic link entry; `target` is written as it is."""
    return Entry(path, "symlink", 0o777, target=target)
