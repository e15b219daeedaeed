"""Members of a zip: the same bytes as zipfile reads, and every damage reported."""

from __future__ import annotations

import random
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.formats.zip_member import Member

CONTENTS = {
    "empty": b"",
    "one": b"x",
    "text": b"All work and no play makes a layer.\n" * 90_000,
    "noise": random.Random(1).randbytes(3_000_000),
    "dir/ünïcødé": "ü".encode() * 5000,
}


@pytest.fixture(scope="module", params=[zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zip") / "archive.zip"
    with zipfile.ZipFile(path, "w", request.param) as out:
        for name, content in CONTENTS.items():
            out.writestr(name, content)
    return path


def info(path: Path, name: str) -> zipfile.ZipInfo:
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo(name)


def whole(path: Path, name: str, size: int = 1 << 20) -> bytes:
    with Member(path, info(path, name)) as stream:
        return b"".join(iter(lambda: stream.read(size), b""))


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("size", [4096, 1 << 20, -1])
def test_content_is_what_went_in(archive: Path, name: str, size: int) -> None:
    assert whole(archive, name, size) == CONTENTS[name]


@given(st.integers(1, 5000), st.binary(max_size=4000))
def test_any_read_size_gives_all_bytes(
    tmp_path_factory: pytest.TempPathFactory, size: int, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("zip") / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("member", content * 3)
    assert whole(path, "member", size) == content * 3


def test_extra_fields_and_large_archives_are_skipped_over(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out,
        out.open("member", "w", force_zip64=True) as stream,
    ):
        stream.write(CONTENTS["text"])
    assert whole(path, "member") == CONTENTS["text"]


def test_compression_that_wheels_do_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as out:
        out.writestr("member", b"x" * 100)
    with pytest.raises(zipfile.BadZipFile, match="member: compression method 14"):
        whole(path, "member")


def damaged(path: Path, offset: int, new: bytes) -> Path:
    """A copy with other bytes at an offset from the member's local header."""
    content = bytearray(path.read_bytes())
    start = info(path, "text").header_offset + offset
    content[start : start + len(new)] = new
    copy = path.with_name("damaged.zip")
    copy.write_bytes(content)
    return copy


@pytest.mark.parametrize(
    ("offset", "new", "fault"),
    [
        (0, b"XX", "its header is damaged"),
        (6, struct.pack("<H", 1), "it is encrypted"),
        (8, struct.pack("<H", 12), "compression method 12"),
        (30, b"tExt", "its header has another name"),
    ],
)
def test_local_header_that_disagrees(archive: Path, offset: int, new: bytes, fault: str) -> None:
    with pytest.raises(zipfile.BadZipFile, match=f"text: {fault}"):
        Member(damaged(archive, offset, new), info(archive, "text"))


def test_every_flipped_byte_of_the_content_is_reported(archive: Path) -> None:
    size = info(archive, "text").compress_size
    for offset in range(0, size, max(1, size // 40)):
        place = 34 + offset
        before = archive.read_bytes()[info(archive, "text").header_offset + place]
        copy = damaged(archive, place, bytes([before ^ 0x55]))
        with pytest.raises(zipfile.BadZipFile, match="text: "):
            whole(copy, "text")


@pytest.mark.parametrize("field", ["file_size", "CRC", "compress_size"])
def test_directory_that_disagrees(archive: Path, field: str) -> None:
    wrong = info(archive, "text")
    setattr(wrong, field, getattr(wrong, field) - 1)
    with pytest.raises(zipfile.BadZipFile, match="text: "), Member(archive, wrong) as stream:
        stream.read()


def test_file_that_is_cut_off(archive: Path) -> None:
    member = info(archive, "text")
    cut = archive.with_name("cut.zip")
    cut.write_bytes(archive.read_bytes()[: member.header_offset + 34 + member.compress_size // 2])
    with pytest.raises(zipfile.BadZipFile, match="text: "), Member(cut, member) as stream:
        stream.read()
