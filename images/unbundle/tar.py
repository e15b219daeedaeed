"""A tar read once, from front to back, out of pieces.

tarfile reads the heads; content goes from the pieces to its place without another copy.
"""

from __future__ import annotations

import tarfile
from typing import IO, Iterator, cast

from images.errors import IntegrityError
from images.unbundle.pieces import Reader

REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)


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
            IntegrityError: the bytes are not a tar.
        """
        reader = self._reader
        try:
            # It reads the first head at once, and needs no more of a file than `read` and `tell`.
            tar = tarfile.TarFile(fileobj=cast("IO[bytes]", reader), mode="r")
            while True:
                member = tar.next()
                if member is None:
                    break
                tar.members = []  # type: ignore[attr-defined]  # or the heads of all members stay in memory
                yield member
                reader.read(tar.offset - reader.tell())
                if reader.tell() != tar.offset:
                    raise tarfile.ReadError("unexpected end of data")
        except tarfile.TarError as error:
            raise IntegrityError(f"not a tar: {error}") from error
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
