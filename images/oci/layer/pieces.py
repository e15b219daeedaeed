"""A reader of a stream in pieces of any size, which never joins the whole."""

from __future__ import annotations

from typing import Iterator

from images.util import limits

_LONGEST_LINE = 1 << 16


class Reader:
    """A forward-only reader of pieces."""

    def __init__(self, pieces: Iterator[bytes | memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._at = 0

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._at

    def read(self, amount: int) -> bytes:
        """Return exactly `amount` bytes; fewer only at the end."""
        return b"".join(self.take(amount))

    def take(self, amount: int) -> Iterator[memoryview]:
        """Yield the same in pieces, none of them copied."""
        while amount > 0 and self._more():
            piece, self._rest = self._rest[:amount], self._rest[amount:]
            amount -= len(piece)
            self._at += len(piece)
            yield piece

    def skip(self, amount: int) -> None:
        """Read `amount` bytes and discard them."""
        for _ in self.take(amount):
            pass

    def line(self) -> bytes:
        """Return a line with its newline; without one at the end, or if the line is too long."""
        found = bytearray()
        while len(found) < _LONGEST_LINE and self._more():
            head, newline, _ = bytes(self._rest[:_LONGEST_LINE]).partition(b"\n")
            found += self.read(len(head) + len(newline))
            if newline:
                break
        return bytes(found)

    def drain(self) -> None:
        """Read to the end, so that the checks at the end of the pieces are made.

        Raises:
            IntegrityError: the stream is longer than the limit of a layer.
        """
        self._at += len(self._rest)
        self._rest = memoryview(b"")
        for piece in self._pieces:
            self._at += len(piece)
            limits.check_count("a layer", self._at, limits.LAYER_BYTES, "bytes")

    def _more(self) -> bool:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._rest = memoryview(piece)
        return True
