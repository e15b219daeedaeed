"""Contents made of pieces of another: the right bytes for any changes, and nothing ambiguous."""

from __future__ import annotations

import io
from typing import IO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.formats.libraries.changed_stream import ChangedStream
from images.formats.libraries.splicing import splice

ORIGINAL = bytes(range(1, 256)) * 4


@settings(deadline=None)
@given(st.data())
def test_any_changes_are_made_at_their_offsets(data: st.DataObject) -> None:
    bounds = data.draw(
        st.lists(st.integers(0, len(ORIGINAL)), max_size=20, unique=True).map(sorted)
    )
    removed, replaced = [], {}
    expected, at = b"", 0
    for start, end in zip(bounds[::2], bounds[1::2], strict=False):
        new = data.draw(st.sampled_from([b"", b"x" * (end - start), bytes(end - start)]))
        if new:
            replaced[start] = new
        else:
            removed.append((start, end - start))
        expected += ORIGINAL[at:start] + new
        at = end
    tail = data.draw(st.binary(max_size=5))
    pieces = splice(len(ORIGINAL), removed, replaced, tail)
    stream = ChangedStream(cast(IO[bytes], io.BytesIO(ORIGINAL)), pieces)
    assert stream.read() == expected + ORIGINAL[at:] + tail
    assert all(piece.length for piece in pieces)


@pytest.mark.parametrize(
    ("removed", "replaced"),
    [
        ([(0, 10), (9, 2)], {}),
        ([(5, 10)], {7: b"x"}),
        ([(5, 10)], {0: b"xxxxxx"}),
        ([(1018, 5)], {}),
        ([(-1, 5)], {}),
        ([(10, -5)], {}),
    ],
)
def test_ranges_that_overlap_or_are_outside_are_refused(
    removed: list[tuple[int, int]], replaced: dict[int, bytes]
) -> None:
    with pytest.raises(ValueError, match="overlaps another, or is outside"):
        splice(len(ORIGINAL), removed, replaced)
