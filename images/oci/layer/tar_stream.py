"""A reader of a tar in pieces, once and from front to back.

tarfile reads the headers; content goes from the pieces to its destination without another copy. The
headers are checked against `images.util.limits`: a layer may come from anybody.
"""

from __future__ import annotations

import tarfile
from typing import IO, Iterator, cast

from images.errors import IntegrityError
from images.oci.layer.pieces import Reader
from images.util import limits

REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_MALFORMED = (tarfile.TarError, ValueError, OverflowError, IndexError, KeyError)
"""Exceptions of tarfile; all but the first come from numbers and from maps of sparse files."""


class TarStream:
    """A tar as its members, each with its content.

    Args:
        pieces: the tar's bytes; after the last member they are read to their end.
    """

    def __init__(self, pieces: Iterator[bytes | memoryview]) -> None:
        self._reader = Reader(pieces)

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the members; the content of each can be read before the next one.

        Raises:
            IntegrityError: the bytes are not a tar, or it is over a limit.
        """
        reader, headers = self._reader, _Headers(self._reader)
        try:
            # It reads the first header at once, and needs only `read` and `tell` of a file.
            tar = tarfile.TarFile(fileobj=cast("IO[bytes]", headers), mode="r")
            count = 0
            # At 0 there was no member, and tarfile would seek for another before Python 3.11.
            while tar.offset and (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # or the headers of all stay in memory
                count += 1
                _check(member, tar, count)
                headers.left = limits.TAR_HEAD
                yield member
                reader.skip(tar.offset - reader.tell())
                if reader.tell() != tar.offset:
                    raise tarfile.ReadError("unexpected end of data")
        except _MALFORMED as error:
            raise IntegrityError(f"not a tar: {error}") from error
        except RecursionError:  # tarfile reads a header before a header by calling itself
            raise IntegrityError("not a tar: too many headers of one member") from None
        reader.drain()

    def content(self, member: tarfile.TarInfo) -> Iterator[memoryview]:
        """Yield the content of the last member; it can be read once.

        Raises:
            IntegrityError: it is truncated.
        """
        begin = self._reader.tell()
        yield from self._reader.take(member.size)
        if self._reader.tell() - begin != member.size:
            raise IntegrityError(f"{member.name}: its content is truncated")

    @property
    def position(self) -> int:
        """Offset in the tar of the next byte."""
        return self._reader.tell()


class _Headers:
    """The file from which tarfile reads headers, with a limit for each member.

    Attributes:
        left: bytes that may still be read before the next member.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.left = limits.TAR_HEAD
        self.tell = reader.tell

    def read(self, amount: int) -> bytes:
        """Return exactly `amount` bytes; fewer only at the end."""
        self.left -= amount
        if self.left < 0:
            raise tarfile.ReadError(f"a header of more than {limits.TAR_HEAD} bytes")
        return self._reader.read(amount)


def _check(member: tarfile.TarInfo, tar: tarfile.TarFile, count: int) -> None:
    """Check a member against the limits."""
    limits.check_count("a layer", count, limits.LAYER_FILES, "files")
    limits.check_count("a layer", tar.offset, limits.LAYER_BYTES, "bytes")
    records = len(tar.pax_headers)
    limits.check_count("a layer", records, limits.TAR_GLOBAL, "records for all members")
    for path in (member.name, member.linkname):
        if len(path) > limits.PATH:
            raise IntegrityError(
                f"{path[:60]}…: a path of {len(path)} characters; {limits.PATH} are the limit"
            )
