"""Contents made of ranges of another content and of new bytes, in one pass over a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, NamedTuple

_CHUNK = 1 << 20


class Copy(NamedTuple):
    """A range of the original."""

    offset: int
    length: int


Piece = Copy | bytes
"""A range of the original, or bytes that it does not have there."""


class Splice(NamedTuple):
    """A content; its copies are in the order of the original, so that it can be streamed."""

    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return sum(p.length if isinstance(p, Copy) else len(p) for p in self.pieces)


def splice(
    size: int, removed: Iterable[tuple[int, int]], replaced: dict[int, bytes], tail: bytes = b""
) -> Splice:
    """Return an original of some size without some ranges, and with others replaced.

    Args:
        size: of the original.
        removed: offsets and lengths.
        replaced: bytes by their offset in the original, of which they replace as many.
        tail: bytes behind its end.

    Raises:
        ValueError: the ranges overlap or are not inside.
    """
    changes = [(offset, offset + length, b"") for offset, length in removed]
    changes += [(offset, offset + len(new), new) for offset, new in replaced.items()]
    pieces: list[Piece] = []
    at = 0
    for start, end, new in [*sorted(changes), (size, size, tail)]:
        if not at <= start <= end <= size:
            raise ValueError(f"the range from {start} to {end} overlaps another, or is outside")
        pieces += [Copy(at, start - at)] if start > at else []
        pieces += [new] if new else []
        at = end
    return Splice(tuple(pieces))


class SplicedStream:
    """A readable stream of a splice, from a stream of its original.

    The original is read to its end, so that whatever checks it there does.

    Args:
        original: a stream at its beginning; closed with this one.
        content: what is made of it.
    """

    def __init__(self, original: IO[bytes], content: Splice) -> None:
        self._original = original
        self._made = _made(original, content.pieces)
        self._waiting = memoryview(b"")

    def __enter__(self) -> SplicedStream:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the original."""
        self._original.close()

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all that is left by default; empty at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        if size and not self._waiting:
            self._waiting = memoryview(next(self._made, b""))
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        return bytes(piece)


def _made(original: IO[bytes], pieces: Sequence[Piece]) -> Iterator[bytes]:
    at = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        for _ in _taken(original, piece.offset - at):
            pass
        yield from _taken(original, piece.length)
        at = piece.offset + piece.length
    while original.read(_CHUNK):
        pass


def _taken(original: IO[bytes], length: int) -> Iterator[bytes]:
    while length:
        taken = original.read(min(length, _CHUNK))
        if not taken:
            raise EOFError("the original is shorter than its splice")
        length -= len(taken)
        yield taken
