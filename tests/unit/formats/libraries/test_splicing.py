"""Contents made of pieces of another: the right bytes for any pieces and any sizes of reads."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.formats.libraries.splicing import Copy, Splice, SplicedStream, splice

ORIGINAL = bytes(range(256)) * 4


def spliced(content: Splice, original: bytes = ORIGINAL, size: int = -1) -> bytes:
    with SplicedStream(io.BytesIO(original), content) as stream:
        return b"".join(iter(lambda: stream.read(size), b""))


@settings(deadline=None)
@given(st.data())
def test_any_changes_are_made_in_their_places(data: st.DataObject) -> None:
    bounds = data.draw(
        st.lists(st.integers(0, len(ORIGINAL)), max_size=20, unique=True).map(sorted)
    )
    removed, replaced = [], {}
    expected, at = b"", 0
    for start, end in zip(bounds[::2], bounds[1::2], strict=False):
        new = data.draw(st.sampled_from([b"", b"x" * (end - start)]))
        if new:
            replaced[start] = new
        else:
            removed.append((start, end - start))
        expected += ORIGINAL[at:start] + new
        at = end
    tail = data.draw(st.binary(max_size=5))
    content = splice(len(ORIGINAL), removed, replaced, tail)
    assert spliced(content, size=data.draw(st.integers(1, 2000))) == expected + ORIGINAL[at:] + tail
    assert content.size == len(expected) + len(ORIGINAL) - at + len(tail)


@pytest.mark.parametrize(
    ("removed", "replaced"),
    [
        ([(0, 10), (9, 2)], {}),
        ([(5, 10)], {7: b"x"}),
        ([(5, 10)], {0: b"xxxxxx"}),
        ([(1020, 5)], {}),
        ([(-1, 5)], {}),
        ([(10, -5)], {}),
    ],
)
def test_ranges_that_overlap_or_are_outside_are_refused(
    removed: list[tuple[int, int]], replaced: dict[int, bytes]
) -> None:
    with pytest.raises(ValueError, match="overlaps another, or is outside"):
        splice(len(ORIGINAL), removed, replaced)


def test_the_original_is_read_to_its_end_and_closed() -> None:
    """The stream of a wheel's file checks its hash there."""
    original = io.BytesIO(ORIGINAL)
    with SplicedStream(original, Splice((Copy(3, 4), b"new"))) as stream:
        assert stream.read() == ORIGINAL[3:7] + b"new"
        assert original.tell() == len(ORIGINAL)
    assert original.closed


def test_reading_nothing_takes_nothing() -> None:
    with SplicedStream(io.BytesIO(ORIGINAL), Splice((Copy(0, 9),))) as stream:
        assert stream.read(0) == b""
        assert stream.read() == ORIGINAL[:9]


def test_a_short_original_is_an_error() -> None:
    with pytest.raises(EOFError, match="shorter"):
        spliced(splice(len(ORIGINAL), [(0, 1)], {}), ORIGINAL[:-1])
