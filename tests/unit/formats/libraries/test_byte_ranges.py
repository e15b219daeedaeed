"""Readers that follow offsets through a stream that can only be read forwards."""

from __future__ import annotations

import io
import random
from collections.abc import Generator

import pytest

from images.formats.libraries import byte_ranges
from images.formats.libraries.byte_ranges import Range

CONTENT = random.Random(1).randbytes(5_000_000)


class Opened:
    """A stream of `CONTENT` that returns few bytes at a time; counts how often it was opened."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> io.BytesIO:
        self.times += 1
        return _Slow(CONTENT)


class _Slow(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 70_001))


def taken(*ranges: Range) -> Generator[Range, bytes, list[bytes]]:
    got = []
    for one in ranges:
        got.append((yield one))
    return got


def collected(into: list[bytes], *ranges: Range) -> Generator[Range, bytes, None]:
    into += yield from taken(*ranges)


def test_ranges_in_order_take_one_pass() -> None:
    wanted = [(0, 64), (64, 10), (1_048_570, 60_000), (4_999_990, 10)]
    found: list[bytes] = []
    opened = Opened()
    byte_ranges.read(opened, [collected(found, *wanted)])
    assert found == [CONTENT[start : start + length] for start, length in wanted]
    assert opened.times == 1


def test_range_behind_the_stream_takes_another_pass() -> None:
    found: list[bytes] = []
    opened = Opened()
    byte_ranges.read(opened, [collected(found, (4_000_000, 8), (17, 8))])
    assert found == [CONTENT[4_000_000:4_000_008], CONTENT[17:25]]
    assert opened.times == 2


def test_reader_begins_at_each_pattern() -> None:
    pattern, found = CONTENT[1_500_000:1_500_006], []

    def at(offset: int) -> Generator[Range, bytes, None]:
        found.append((offset, (yield offset, 20)))

    byte_ranges.read(Opened(), [], pattern, at)
    assert found == [(1_500_000, CONTENT[1_500_000:1_500_020])]


@pytest.mark.parametrize("distance", range(-6, 3))
@pytest.mark.parametrize("piece", [1, 2])
def test_pattern_across_pieces_is_found_once(piece: int, distance: int) -> None:
    start = piece * 15 * 70_001 + distance  # as many reads as make a piece
    found: list[int] = []

    def at(offset: int) -> Generator[Range, bytes, None]:
        found.append(offset)
        yield offset, 1

    byte_ranges.read(Opened(), [], CONTENT[start : start + 5], at)
    assert found == [start]


def test_range_outside_the_stream_is_an_error() -> None:
    with pytest.raises(EOFError):
        byte_ranges.read(Opened(), [collected([], (len(CONTENT) - 1, 2))])
