"""Ranges of a stream that can only be read forwards, for readers that follow offsets in it.

A reader is a generator: it yields the range that it needs next and is sent its bytes. Many run at
once over one pass of the stream, and new ones may begin where a pattern occurs in it; what one asks
for behind the point that the stream has reached is read in another pass. No more than some MB of
the stream are in memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import count
from typing import IO, Any

Range = tuple[int, int]
"""Offset and length."""

Reader = Generator[Range, bytes, Any]
"""Yields ranges of at most `LARGEST` bytes, which all lie in the stream; is sent their bytes."""

LARGEST = 1 << 16
"""Bytes of the longest range."""

_PIECE = 1 << 20


class _Requests:
    """The ranges that readers wait for."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Reader]] = []
        self._number = count()  # readers cannot be compared

    def __bool__(self) -> bool:
        return bool(self._heap)

    def check(self, end: int) -> None:
        """Raise if a request is not in a stream of so many bytes: it would wait for ever."""
        if any(start + length > end for start, _, length, _ in self._heap):
            raise EOFError("a range is not in the stream")

    def start(self, reader: Reader) -> None:
        """Take the first request of a reader."""
        self._advance(reader, None)

    def _advance(self, reader: Reader, content: bytes | None) -> None:
        try:
            start, length = next(reader) if content is None else reader.send(content)
        except StopIteration:
            return
        heapq.heappush(self._heap, (start, next(self._number), length, reader))

    def answer(self, start: int, window: bytes) -> None:
        """Answer the requests that a piece of the stream covers, and those that follow from them.

        Args:
            start: the piece's offset.
            window: its bytes.
        """
        behind = []
        while self._heap and self._heap[0][0] + self._heap[0][2] <= start + len(window):
            request = heapq.heappop(self._heap)
            if request[0] < start:
                behind.append(request)
                continue
            at = request[0] - start
            self._advance(request[3], window[at : at + request[2]])
        for request in behind:
            heapq.heappush(self._heap, request)


def read(
    opened: Callable[[], IO[bytes]],
    readers: Iterable[Reader],
    pattern: bytes = b"",
    at_pattern: Callable[[int], Reader] | None = None,
) -> None:
    """Run readers over a stream to their ends.

    The first pass reads the stream to its end, whatever the readers need.

    Args:
        opened: opens the stream at its beginning; it has the same bytes each time.
        readers: what runs from the beginning on.
        pattern: the bytes at which further readers begin.
        at_pattern: returns the reader for an offset of the pattern.
    """
    requests = _Requests()
    for reader in readers:
        requests.start(reader)
    first = True
    while first or requests:
        end = 0
        with closing(_windows(opened)) as windows:
            for start, seen, window in windows:
                if first and at_pattern is not None:
                    for offset in _found(window, pattern, seen):
                        requests.start(at_pattern(start + offset))
                requests.answer(start, window)
                end = start + len(window)
                if not (first or requests):
                    break
        requests.check(end)
        first = False


def _windows(opened: Callable[[], IO[bytes]]) -> Generator[tuple[int, int, bytes], None, None]:
    """Yield offset and bytes of overlapping windows, and how many bytes the last one had too."""
    with opened() as stream:
        start, before = 0, b""
        while piece := _piece(stream):
            window = before + piece
            yield start, len(before), window
            before = window[-LARGEST:]
            start += len(window) - len(before)


def _piece(stream: IO[bytes]) -> bytes:
    """Read about `_PIECE` bytes; a stream may return fewer at a time."""
    pieces, size = [], 0
    while size < _PIECE and (piece := stream.read(_PIECE)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _found(window: bytes, pattern: bytes, seen: int) -> Iterator[int]:
    """Yield the offsets of the pattern in a window that do not end in what was seen before."""
    at = window.find(pattern, max(0, seen - len(pattern) + 1))
    while at >= 0:
        yield at
        at = window.find(pattern, at + 1)
