"""A tar read once, from front to back, out of pieces.

tarfile reads the heads; content goes from the pieces to its place without another copy. What the
heads say is held against `images.util.limits`: a layer may be somebody else's.
"""

from __future__ import annotations

import tarfile
from typing import IO, Iterator, cast

from images.errors import IntegrityError
from images.oci.layer.pieces import Reader
from images.util import limits

REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_MALFORMED = (tarfile.TarError, ValueError, OverflowError, IndexError, KeyError)
"""What tarfile raises; all but the first of numbers and of the maps of sparse files."""


class TarStream:
    """A tar as its members, each with its content.

    Args:
        pieces: the tar's bytes; with the last member they are read to their end.
    """

    def __init__(self, pieces: Iterator[bytes | memoryview]) -> None:
        self._reader = Reader(pieces)

    def members(self) -> Iterator[tarfile.TarInfo]:
        """The members; the content of each can be taken before the next is asked for.

        Raises:
            IntegrityError: the bytes are not a tar, or it is over a limit.
        """
        reader, heads = self._reader, _Heads(self._reader)
        try:
            # It reads the first head at once, and needs no more of a file than `read` and `tell`.
            tar = tarfile.TarFile(fileobj=cast("IO[bytes]", heads), mode="r")
            count = 0
            while True:
                member = tar.next()
                if member is None:
                    break
                tar.members = []  # type: ignore[attr-defined]  # or the heads of all members stay in memory
                count += 1
                _check(member, tar, count)
                heads.left = limits.TAR_HEAD
                yield member
                reader.skip(tar.offset - reader.tell())
                if reader.tell() != tar.offset:
                    raise tarfile.ReadError("unexpected end of data")
        except _MALFORMED as error:
            raise IntegrityError(f"not a tar: {error}") from error
        except RecursionError:  # tarfile reads a head that stands before a head by calling itself
            raise IntegrityError("not a tar: too many heads of one member") from None
        reader.drain()

    def content(self, member: tarfile.TarInfo) -> Iterator[memoryview]:
        """The content of the member that came last; it can be taken once.

        Raises:
            IntegrityError: it is cut off.
        """
        begin = self._reader.tell()
        yield from self._reader.take(member.size)
        if self._reader.tell() - begin != member.size:
            raise IntegrityError(f"{member.name}: its content is cut off")

    @property
    def position(self) -> int:
        """Offset in the tar of the byte that comes next."""
        return self._reader.tell()


class _Heads:
    """What tarfile reads heads from: so much for each member and no more.

    Attributes:
        left: bytes that may still be read before the next member.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.left = limits.TAR_HEAD
        self.tell = reader.tell

    def read(self, amount: int) -> bytes:
        """Exactly `amount` bytes; fewer only at the end."""
        self.left -= amount
        if self.left < 0:
            raise tarfile.ReadError(f"a head of more than {limits.TAR_HEAD} bytes")
        return self._reader.read(amount)


def _check(member: tarfile.TarInfo, tar: tarfile.TarFile, count: int) -> None:
    """Hold a member against the limits."""
    limits.check_count("a layer", count, limits.LAYER_FILES, "files")
    limits.check_count("a layer", tar.offset, limits.LAYER_BYTES, "bytes")
    records = len(tar.pax_headers)
    limits.check_count("a layer", records, limits.TAR_GLOBAL, "records for all members")
    for path in (member.name, member.linkname):
        if len(path) > limits.PATH:
            raise IntegrityError(
                f"{path[:60]}…: a path of {len(path)} characters; {limits.PATH} are the limit"
            )
