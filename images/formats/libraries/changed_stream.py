"""A changed file as a stream: parts of the published file, new bytes, and zeros."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, NamedTuple

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)


class Piece(NamedTuple):
    """A part of a changed file.

    Attributes:
        length: bytes of it.
        start: where it is in the published file; -1 if it is not from there.
        content: the bytes of a part that is not from there; zeros if it is empty.
    """

    length: int
    start: int = -1
    content: bytes = b""


class ChangedStream:
    """The readable stream of the pieces of a file; the published one is read once, forwards.

    It is read to its end whatever the pieces need of it, so that its checks are made.

    Args:
        published: the stream of the published file.
        pieces: the changed file.
    """

    def __init__(self, published: IO[bytes], pieces: Iterable[Piece]) -> None:
        self._published = published
        self._pieces = iter(pieces)
        self._piece: Piece | None = Piece(0)
        self._done = 0  # bytes of the piece
        self._at = 0  # of the published file

    def __enter__(self) -> ChangedStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self._published.close()

    def close(self) -> None:
        """Close the published file."""
        self._published.close()

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all that is left by default; empty at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        piece = self._current()
        if piece is None:
            self._skip(None)
            return b""
        wanted = min(size, piece.length - self._done, _CHUNK)
        if piece.start < 0:
            content = piece.content[self._done : self._done + wanted] or _ZEROS[:wanted]
        else:
            self._skip(piece.start + self._done)
            content = self._read(wanted)
        self._done += len(content)
        return content

    def _current(self) -> Piece | None:
        while self._piece is not None and self._done >= self._piece.length:
            self._piece, self._done = next(self._pieces, None), 0
        return self._piece

    def _skip(self, target: int | None) -> None:
        """Read the published file up to an offset, or to its end."""
        while target is None or self._at < target:
            if not self._read(_CHUNK if target is None else min(_CHUNK, target - self._at)):
                break

    def _read(self, size: int) -> bytes:
        content = self._published.read(size)
        self._at += len(content)
        return content
