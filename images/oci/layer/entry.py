"""Members of a layer, before they become tar members.

Each source of files of an image (a wheel, a .deb, the base's tar) is an iterable of `Entry`;
`writer.py` alone turns entries into bytes.
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
        kind: `file`, `dir`, `symlink` or `hardlink`.
        mode: permission bits only; ignored for links.
        size: bytes of content; 0 unless `kind` is `file`.
        open: opens the content as a readable binary stream of exactly `size` bytes.
        target: of a symlink, the text in the link; of a hard link, the `path` of an entry of the
            same layer.
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
    """Return whether a path is a whiteout: an engine removes what a lower layer has.

    OCI Image Format 1.1, layer.md, "Whiteouts" and "Opaque Whiteout"; AUFS, where they come from,
    has more such names, with the same beginning.
    """
    return path.startswith(".wh.") or "/.wh." in path


def of_bytes(path: str, content: bytes, mode: int = 0o644) -> Entry:
    """Return a file entry whose content is in memory."""
    return Entry(path, "file", mode, len(content), lambda: io.BytesIO(content))


def of_symlink(path: str, target: str) -> Entry:
    """Return a symbolic link entry; `target` is written as given."""
    return Entry(path, "symlink", 0o777, target=target)
