"""Every way to read zstd returns the same bytes and finds the same damage."""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images.errors import IntegrityError, ToolError
from images.unbundle.sources import zstd
from images.unbundle.sources.zstd import Decompress
from tests.damage import flipped
from tests.unit.bundles import host_library


class _Frame:
    """Python 3.14's compression.zstd.ZstdDecompressor: one frame, output in limited pieces."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = b""
        self.eof, self.needs_input, self.unused_data = False, True, b""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if self.eof:
            raise EOFError("Already at the end of a Zstandard frame.")
        if not self._frame.eof:
            self._ready += self._frame.decompress(data)
        size = len(self._ready) if max_length < 0 else max_length
        made, self._ready = self._ready[:size], self._ready[size:]
        if self._frame.eof and not self._ready:
            self.eof, self.unused_data = True, self._frame.unused_data
        self.needs_input = not self._ready and not self.eof
        return made


@pytest.fixture(scope="module", params=zstd.WAYS)
def decompress(request: pytest.FixtureRequest) -> Iterator[Decompress]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python" and sys.version_info < (3, 14):
            # Its interface over another zstd: the real module came with Python 3.14.
            module = types.ModuleType("compression")
            module.zstd = types.SimpleNamespace(  # type: ignore[attr-defined]
                ZstdDecompressor=_Frame, ZstdError=zstandard.ZstdError
            )
            patch.setitem(sys.modules, "compression", module)
        carried = host_library() if request.param == "carried" else None
        try:
            found = zstd.find(carried, "nothing", request.param)
        except ToolError as error:
            pytest.skip(f"not on this machine: {error.message}")
        yield found


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def read(decompress: Decompress, content: bytes, size: int = 1 << 16) -> bytes:
    return b"".join(decompress(pieces(content, size)))


NOISE = random.Random(1).randbytes(300_000)


@given(
    content=st.one_of(st.binary(max_size=3000), st.just(bytes(5_000_000)), st.just(NOISE)),
    size=st.integers(1, 200_000),
    frames=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_pieces_of_any_frames(
    decompress: Decompress, content: bytes, size: int, frames: int
) -> None:
    frame = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(content)
    assert read(decompress, frame * frames, max(size, len(frame) // 500)) == content * frames


def test_blocks_of_odd_sizes(decompress: Decompress) -> None:
    """The last block does not fit what is left of an output buffer, and no input follows."""
    content = NOISE[:100_000] * 11
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=False).compressobj()
    frame = b""
    for at in range(0, len(content), 100_000):
        frame += compressor.compress(content[at : at + 100_000])
        if at + 100_000 < len(content):
            frame += compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    frame += compressor.flush()
    assert read(decompress, frame, len(frame)) == content


def test_damage_is_found(decompress: Decompress) -> None:
    frame = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(NOISE)
    for cut in (1, 10, len(frame) // 2, len(frame) - 1):
        with pytest.raises(IntegrityError, match="damaged zstd"):
            read(decompress, frame[:cut])
    for content in (flipped(frame), b"no zstd", frame + b"rubbish"):
        with pytest.raises(IntegrityError, match="damaged zstd"):
            read(decompress, content)


def test_it_can_be_left_before_its_end(decompress: Decompress) -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    stream = decompress(pieces(frame, 1000))
    assert len(next(stream)) > 0
    stream.close()  # type: ignore[attr-defined]


def test_an_error_of_the_input_comes_through(decompress: Decompress) -> None:
    frame = zstandard.ZstdCompressor().compress(NOISE)

    def failing() -> Iterator[bytes]:
        yield frame[:1000]
        raise IntegrityError("part-0001: damaged")

    with pytest.raises(IntegrityError, match="part-0001"):
        list(decompress(failing()))


def test_without_any_way_the_ways_out_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "compression", None)
    monkeypatch.setattr(zstd, "of_host", lambda: zstd.of_library("libzstd-of-nobody.so.1"))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "libzstd.so.1").write_bytes(b"for another machine")
    with pytest.raises(ToolError) as caught:
        zstd.find(tmp_path / "libzstd.so.1", "x86-64 Linux with glibc 2.34 or later")
    for way in zstd.WAYS:
        assert f"  {way}: " in caught.value.message
    assert caught.value.remedy is not None
    assert "install libzstd" in caught.value.remedy
    assert "glibc 2.34" in caught.value.remedy


def test_the_first_way_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compression", None)
    library = host_library()
    monkeypatch.setattr(zstd, "of_host", lambda: zstd.of_library("libzstd-of-nobody.so.1"))
    monkeypatch.setattr(zstd, "of_program", lambda: pytest.fail("the library comes first"))
    frame = zstandard.ZstdCompressor().compress(b"here")
    assert read(zstd.find(library, "nothing"), frame) == b"here"
