"""The only writer of layers: entries to one deterministic tar and its compressed blob.

Two builds of the same entries give the same bytes, on any machine, for any user, at any time. What
a tar could reveal of the builder is fixed here: owner names, modification times, the order of
members, directories that no entry listed, and the compressor's settings.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterable
from typing import IO, Literal, Protocol

from images.errors import IntegrityError, ToolError
from images.oci.descriptor import LAYER_TYPE, Blob, Compression
from images.oci.layer import tar_header
from images.oci.layer.entry import Entry, is_whiteout

Effort = Literal["fast", "dense"]
"""Compression effort. `dense` is for what is small and is sent at each commit."""


ZSTANDARD = "0.25.0"
"""The version of python-zstandard, which decides the bytes. pyproject.toml pins it, too."""

_ZSTD_LEVELS: dict[Effort, int] = {"fast": 3, "dense": 9}
_GZIP_LEVELS: dict[Effort, int] = {"fast": 6, "dense": 9}
_CHUNK = 1 << 18  # stays in a core's second-level cache on its way through hashes and compressor
_LARGE = 1 << 16  # from here on copying a piece costs more than a call of its own
# A gzip member's header without name or time: RFC 1952, section 2.3; OS 255 is "unknown".
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class Compressor(Protocol):
    """A stream compressor with fixed settings: the same input gives the same bytes."""

    def compress(self, data: bytes | bytearray, /) -> bytes:
        """Take bytes; return the output so far."""

    def flush(self) -> bytes:
        """Return the rest; the compressor takes no more."""


class _Gzip:
    """gzip with a fixed header; `gzip.GzipFile` writes the level and the system into it."""

    def __init__(self, level: int) -> None:
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc = self._size = 0
        self._head = _GZIP_HEAD

    def compress(self, data: bytes | bytearray, /) -> bytes:
        head, self._head = self._head, b""
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        return head + self._deflate.compress(data)

    def flush(self) -> bytes:
        tail = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._deflate.flush() + tail


def _zstd(level: int) -> Compressor:
    import zstandard

    if zstandard.__version__ != ZSTANDARD:
        raise ToolError(
            f"python-zstandard {zstandard.__version__} makes other bytes than {ZSTANDARD}",
            remedy=f"pip install zstandard=={ZSTANDARD}",
        )
    made: Compressor = zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
    return made


def compressor(compression: Compression, effort: Effort = "fast") -> Compressor:
    """Return a compressor for a layer."""
    if compression == "gzip":
        return _Gzip(_GZIP_LEVELS[effort])
    return _zstd(_ZSTD_LEVELS[effort])


class _Sink:
    """Takes a tar's bytes; hashes them, compresses them, hashes and writes what comes out."""

    def __init__(self, out: IO[bytes], compression: Compression, effort: Effort) -> None:
        self._out = out
        self._compressor = compressor(compression, effort)
        self._tar_hash = hashlib.sha256()
        self._blob_hash = hashlib.sha256()
        self._buffer = bytearray()
        self._unpacked = self._size = 0
        self._media_type = LAYER_TYPE + compression

    def write(self, data: bytes) -> None:
        """Gather small pieces (tar headers, small files): each call costs the same."""
        if len(data) >= _LARGE:
            self._flush()
            self._push(data)
            return
        self._buffer += data
        if len(self._buffer) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        whole, self._buffer = self._buffer, bytearray()
        self._push(whole)

    def _push(self, data: bytes | bytearray) -> None:
        self._tar_hash.update(data)
        self._unpacked += len(data)
        self._emit(self._compressor.compress(data))

    def _emit(self, data: bytes) -> None:
        self._blob_hash.update(data)
        self._size += len(data)
        self._out.write(data)

    def finish(self) -> Blob:
        self._flush()
        self._emit(self._compressor.flush())
        return Blob(
            f"sha256:{self._blob_hash.hexdigest()}",
            f"sha256:{self._tar_hash.hexdigest()}",
            self._size,
            self._unpacked,
            self._media_type,
        )


def write(
    entries: Iterable[Entry],
    out: IO[bytes],
    compression: Compression,
    progress: Callable[[int], None] = lambda _: None,
    effort: Effort = "fast",
) -> Blob:
    """Write a layer's compressed tar to `out`.

    Directories above an entry that no entry before it listed are added (0755, root): an engine
    would otherwise make them with a mode of its own choice.

    Args:
        entries: the members, in their order in the tar.
        out: receives the compressed bytes.
        compression: `zstd` (with checksum) or `gzip`.
        progress: called with content bytes as they are written.
        effort: `fast` (level 3 of zstd, 6 of gzip) or `dense` (9 of either).

    Raises:
        IntegrityError: a path leaves the root, has the name of a whiteout or occurs twice (a
            directory may, if both are equal), a hard link's target does not precede it, or content
            has another size than its entry.
    """
    sink = _Sink(out, compression, effort)
    seen: dict[str, _Form] = {}
    for entry in entries:
        for parent in _parents(entry.path):
            if parent not in seen:
                directory = Entry(parent, "dir", 0o755)
                seen[parent] = _form(directory)
                sink.write(tar_header.of(directory))
            elif seen[parent][0] != "dir":
                raise IntegrityError(f"{entry.path}: its directory {parent} is a {seen[parent][0]}")
        if entry.path in seen:
            if entry.kind == "dir" and seen[entry.path] == _form(entry):
                continue
            raise IntegrityError(f"{entry.path}: occurs twice in one layer")
        if entry.kind == "hardlink" and entry.target not in seen:
            raise IntegrityError(f"{entry.path}: links to {entry.target}, which is not before it")
        seen[entry.path] = _form(entry)
        sink.write(tar_header.of(entry))
        if entry.kind == "file":
            _copy(entry, sink, progress)
    sink.write(bytes(2 * tarfile.BLOCKSIZE))
    return sink.finish()


_Form = tuple[str, int, int, int]
"""Kind, mode and owner: an entry without its content, which must not be kept in memory."""


def _form(entry: Entry) -> _Form:
    return entry.kind, entry.mode, entry.uid, entry.gid


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise IntegrityError(f"{path!r}: not a path inside the image")
    if is_whiteout(path):
        raise IntegrityError(
            f"{path}: a whiteout's name: an engine would remove a file of a lower layer",
            remedy="what contains it cannot be in an image: lock another version, or leave it out",
        )
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def _copy(entry: Entry, sink: _Sink, progress: Callable[[int], None]) -> None:
    left = entry.size
    with entry.open() as stream:
        while piece := stream.read(_CHUNK):
            left -= len(piece)
            sink.write(piece)
            progress(len(piece))
    if left:
        raise IntegrityError(f"{entry.path}: {abs(left)} bytes {'short' if left > 0 else 'over'}")
    sink.write(bytes(-entry.size % tarfile.BLOCKSIZE))


def compressor_id(compression: Compression, effort: Effort = "fast") -> dict[str, str | int]:
    """Return what decides the compressed bytes, for a layer's key: level and library version."""
    if compression == "gzip":
        return {"gzip": _GZIP_LEVELS[effort], "zlib": zlib.ZLIB_RUNTIME_VERSION}
    return {"zstd": _ZSTD_LEVELS[effort], "python-zstandard": ZSTANDARD}
