"""Headers of tar members: the bytes that `tarfile` makes, made faster.

A cold build writes about 90,000 of them. Format: POSIX.1-2017, pax, "ustar Interchange Format" and
"pax Header Block"; a path or a link's target of more than 100 bytes is in a pax header before the
member's own. What is rare (other alphabets, owners and sizes beyond their fields) is left to
`tarfile`.
"""

from __future__ import annotations

import tarfile

from images.oci.layer.entry import Entry

MTIME = 549_864_182
"""Seconds since the epoch of every member: 1987-06-05 04:03:02 UTC.

Byte code contains it (bytecode.py), and Python takes a source with another time for an edited one.
So it is a time that no other tool gives a file: not 0 or 1 (OSTree, Nix, kaniko), not 1980-01-01
(files of many zips), no other round date of a reproducible build (npm's 1985-10-26, 2000, 2010).
It is far enough from 1980 for zip files in every time zone, also in their unit of 2 seconds, and
fits into 31 bits.
"""

_TYPES: dict[str, bytes] = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
}
_BLOCK = tarfile.BLOCKSIZE
_NAME = 100  # bytes of the fields of a name and of a link's target
_OWNER = 8**7  # from here on a number does not fit into its field
_SIZE = 8**11
_ZEROS = bytes(_BLOCK)
_PAX_NAME = b"././@PaxHeader"


def of(entry: Entry) -> bytes:
    """Return the header of an entry, in whole blocks of 512 bytes."""
    name = f"{entry.path}/" if entry.kind == "dir" else entry.path
    size = entry.size if entry.kind == "file" else 0
    mode = 0o777 if entry.kind == "symlink" else entry.mode & 0o7777
    if not (
        name.isascii()
        and entry.target.isascii()
        and 0 <= entry.uid < _OWNER
        and 0 <= entry.gid < _OWNER
        and 0 <= size < _SIZE
    ):
        return by_tarfile(entry)
    path, target = name.encode(), entry.target.encode()
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, entry.uid, entry.gid, size, MTIME)
    own = _block(path[:_NAME], numbers, _TYPES[entry.kind], target[:_NAME])
    if len(path) <= _NAME and len(target) <= _NAME:
        return own
    records = _record(b"path", path) + _record(b"linkpath", target)
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (0, 0, 0, len(records), 0)
    head = _block(_PAX_NAME, numbers, tarfile.XHDTYPE, b"")
    return head + records + _ZEROS[: -len(records) % _BLOCK] + own


def _block(name: bytes, numbers: bytes, kind: bytes, target: bytes) -> bytes:
    tail = kind + target + _ZEROS[: _NAME - len(target)] + tarfile.POSIX_MAGIC
    # The sum of all bytes, with the sum's own field counted as spaces.
    total = sum(name) + sum(numbers) + sum(tail) + 8 * ord(" ")
    filled = name + _ZEROS[: _NAME - len(name)] + numbers + b"%06o\0 " % total + tail
    return filled + _ZEROS[: _BLOCK - len(filled)]


def _record(key: bytes, value: bytes) -> bytes:
    """Return a pax record, which begins with its own length; b"" for what fits into its field."""
    if len(value) <= _NAME:
        return b""
    rest = len(key) + len(value) + 3  # a space, "=" and the line's end
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def by_tarfile(entry: Entry) -> bytes:
    """Return the header of an entry as `tarfile` makes it."""
    info = tarfile.TarInfo(entry.path)
    info.type = _TYPES[entry.kind]
    info.mode = 0o777 if entry.kind == "symlink" else entry.mode
    info.uid, info.gid = entry.uid, entry.gid
    info.size = entry.size if entry.kind == "file" else 0
    info.mtime = MTIME
    info.linkname = entry.target
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
