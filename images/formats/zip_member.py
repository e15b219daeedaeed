"""The content of a zip's member, inflated by ISA-L in half of zlib's time.

`zipfile` reads the zip's directory and its small files; inflating gigabytes through it was the
largest single cost of a build. Format: PKWARE's APPNOTE.TXT, section 4.3.7 (local file header).
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import cast

from isal import isal_zlib

_DamagedError = cast("type[Exception]", isal_zlib.error)  # its stub calls it an instance
_HEADER = struct.Struct("<4s2xHH16xHH")  # signature, flags, method, lengths of name and extra
_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 1
_RAW = -15  # deflate without zlib's head
_PIECE = 1 << 17  # compressed bytes for each read
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Member:
    """A readable stream of one member; its end checks length and CRC against the directory.

    Args:
        path: the zip.
        info: the member, from the zip's directory.

    Raises:
        zipfile.BadZipFile: the member does not match the directory.
    """

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self._info = info
        self._left = info.compress_size
        self._crc = self._size = 0
        self._inflate = isal_zlib.decompressobj(_RAW) if info.compress_type else None
        self._file = path.open("rb", buffering=0)
        try:
            self._seek()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all that is left by default; empty at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        inflate = self._inflate
        piece = self._stored(size) if inflate is None else self._inflated(inflate, size)
        if piece:
            self._crc = isal_zlib.crc32(piece, self._crc)
            self._size += len(piece)
            if self._size > self._info.file_size:
                raise self._broken(f"more than its {self._info.file_size} bytes")
        elif size:
            self._compare()
        return piece

    def _seek(self) -> None:
        """Go to the first byte of content, behind the local header."""
        info = self._info
        self._file.seek(info.header_offset)
        head = self._file.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_SIGNATURE):
            raise self._broken("its header is damaged")
        _, flags, method, name, extra = _HEADER.unpack(head)
        if flags & _ENCRYPTED:
            raise self._broken("it is encrypted")
        if method != info.compress_type or method not in _METHODS:
            raise self._broken(f"compression method {method}")
        found = self._file.read(name)
        if found != info.orig_filename.encode("utf-8" if flags & 0x800 else "cp437"):
            raise self._broken("its header has another name")
        self._file.seek(extra, 1)

    def _stored(self, size: int) -> bytes:
        piece = self._file.read(min(size, self._left))
        self._left -= len(piece)
        return piece

    def _inflated(self, inflate: isal_zlib.Decompress, size: int) -> bytes:
        while not inflate.eof:
            waiting = inflate.unconsumed_tail or self._stored(_PIECE)
            try:
                piece = inflate.decompress(waiting, size)
            except _DamagedError as error:
                raise self._broken(str(error)) from error
            if piece or not waiting:
                return piece
        return b""

    def _compare(self) -> None:
        if self._inflate is not None and not self._inflate.eof:
            raise self._broken("its end is missing")
        if self._size != self._info.file_size:
            raise self._broken(f"{self._size} bytes instead of {self._info.file_size}")
        if self._crc != self._info.CRC:
            raise self._broken("its checksum is wrong")

    def _broken(self, why: str) -> zipfile.BadZipFile:
        return zipfile.BadZipFile(f"{self._info.filename}: {why}")
