"""Contents made of ranges of another content and of new bytes."""

from __future__ import annotations

from collections.abc import Iterable

from images.formats.libraries.changed_stream import Piece


def splice(
    size: int, removed: Iterable[tuple[int, int]], replaced: dict[int, bytes], tail: bytes = b""
) -> tuple[Piece, ...]:
    """Return the pieces of an original without some ranges, and with others replaced.

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
        pieces += [Piece(start - at, at), Piece(len(new), content=new)]
        at = end
    return tuple(piece for piece in pieces if piece.length)
