"""A reader of pieces: the same bytes, however they are cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from images.errors import IntegrityError
from images.oci.layer.pieces import Reader
from images.util import limits

TEXT = b"first line\nsecond\n\nlast"


@pytest.fixture(params=[1, 3, len(TEXT)])
def reader(request: pytest.FixtureRequest) -> Reader:
    size: int = request.param
    pieces: Iterator[bytes] = (TEXT[at : at + size] for at in range(0, len(TEXT), size))
    return Reader(pieces)


def test_bytes_are_read_across_pieces(reader: Reader) -> None:
    assert (reader.read(4), reader.tell()) == (TEXT[:4], 4)
    assert b"".join(reader.take(9)) == TEXT[4:13]
    reader.skip(2)
    assert reader.tell() == 15
    assert reader.read(100) == TEXT[15:]
    assert reader.read(1) == b""
    assert reader.tell() == len(TEXT)


def test_lines_are_read_across_pieces(reader: Reader) -> None:
    lines = [reader.line() for _ in range(5)]
    assert lines == [b"first line\n", b"second\n", b"\n", b"last", b""]


def test_rest_is_read_to_its_end(reader: Reader) -> None:
    reader.read(1)
    reader.drain()
    assert reader.tell() == len(TEXT)
    assert reader.read(1) == b""


def test_rest_above_the_limit_of_a_layer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LAYER_BYTES", 100)
    with pytest.raises(IntegrityError):
        Reader(bytes(60) for _ in range(2)).drain()
