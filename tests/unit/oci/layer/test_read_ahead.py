"""Reading ahead: the same pieces, errors of the thread, and no thread that is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from images.oci.layer.read_ahead import ahead


def test_pieces_come_in_their_order() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter([]))) == []


def test_pieces_are_made_by_another_thread_before_they_are_read() -> None:
    second = threading.Event()

    def pieces() -> Iterator[int]:
        yield threading.get_ident()
        second.set()
        yield 0

    stream = ahead(pieces())
    assert next(stream) != threading.get_ident()
    assert second.wait(30)
    assert list(stream) == [0]


def test_error_comes_after_the_pieces_before_it() -> None:
    def pieces() -> Iterator[int]:
        yield 1
        raise OSError("broken")

    stream = ahead(pieces())
    assert next(stream) == 1
    with pytest.raises(OSError, match="broken"):
        next(stream)


def test_closing_ends_the_thread_and_closes_the_pieces() -> None:
    before, closed = threading.active_count(), threading.Event()

    def pieces() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = ahead(pieces())
    assert next(stream) == 0
    stream.close()
    assert closed.is_set()
    assert threading.active_count() == before
