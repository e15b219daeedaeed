"""Layers: the same bytes for the same entries, what a reader finds in them, and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from images.errors import IntegrityError, ToolError
from images.oci.descriptor import COMPRESSIONS, Blob, Compression
from images.oci.layer import tar_header, writer
from images.oci.layer.entry import Entry, Kind, of_bytes, of_symlink
from images.repository import ROOT

MIB = 1 << 20

FIXED = [
    Entry("etc", "dir", 0o755),
    of_bytes("etc/hostname", b"worker\n"),
    of_bytes("opt/venv/bin/tool", b"#!/bin/sh\n", 0o755),
    of_symlink("opt/venv/bin/python", "/usr/bin/python3.11"),
    Entry("opt/venv/bin/same", "hardlink", target="opt/venv/bin/tool"),
    Entry("tmp", "dir", 0o1777, uid=7, gid=8),
]
"""A layer that never changes: its digests below are those of every machine and every day."""

FIXED_DIFF_ID = "sha256:ff9306ce9f115917ed94802cd2b3641ec80740cd5d44da2782f26994ac5a0986"
FIXED_DIGEST = {
    "zstd": "sha256:61ddad5752e73cd71e4ed1de403322653a6a087494d92258c73b824ff6525717",
    "gzip": "sha256:4a031fae1eedefb9b61e6361d32d1545c17c5cb9c9981376f22f5cccda21b1b3",
}


def written(entries: Iterable[Entry], compression: Compression = "gzip") -> tuple[Blob, bytes]:
    out = io.BytesIO()
    blob = writer.write(entries, out, compression)
    return blob, out.getvalue()


def unpacked(content: bytes, compression: Compression = "gzip") -> bytes:
    if compression == "gzip":
        return gzip.decompress(content)
    return zstandard.ZstdDecompressor().decompressobj().decompress(content)


def members(entries: Iterable[Entry]) -> list[tarfile.TarInfo]:
    tar = unpacked(written(entries)[1])
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        return archive.getmembers()


class Dribble(io.RawIOBase):
    """A stream that gives at most `most` bytes at a time, as a zip member or a pipe may."""

    def __init__(self, content: bytes, most: int) -> None:
        self._source, self._most = io.BytesIO(content), most

    def read(self, size: int = -1, /) -> bytes:
        return self._source.read(self._most if size < 0 else min(size, self._most))


def dribbled(path: str, content: bytes, most: int) -> Entry:
    return Entry(path, "file", 0o644, len(content), lambda: cast(IO[bytes], Dribble(content, most)))


# -- the same bytes --------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_fixed_layer_has_the_digest_it_always_had(compression: Compression) -> None:
    blob, _ = written(FIXED, compression)
    assert blob.diff_id == FIXED_DIFF_ID
    if compression == "gzip" and "ng" in zlib.ZLIB_RUNTIME_VERSION:
        pytest.skip(f"zlib {zlib.ZLIB_RUNTIME_VERSION} deflates to other bytes than zlib's own")
    assert blob.digest == FIXED_DIGEST[compression]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_blob_describes_the_bytes_that_were_written(compression: Compression) -> None:
    blob, content = written(FIXED, compression)
    tar = unpacked(content, compression)
    assert blob == Blob(
        "sha256:" + hashlib.sha256(content).hexdigest(),
        "sha256:" + hashlib.sha256(tar).hexdigest(),
        len(content),
        len(tar),
        f"application/vnd.oci.image.layer.v1.tar+{compression}",
    )


OTHER_PROCESS = """
import io, json, sys
from images.oci.descriptor import COMPRESSIONS
from images.oci.layer.entry import of_bytes, of_symlink
from images.oci.layer.writer import write
entries = [of_bytes("a/ü", bytes(3_000_000)), of_symlink("a/l", "ü"), of_bytes("b", b"x", 0o755)]
print(json.dumps([write(entries, io.BytesIO(), kind).digest for kind in COMPRESSIONS]))
"""


def test_umask_time_zone_locale_and_hash_seed_do_not_show() -> None:
    def digests(umask: int, **env: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", OTHER_PROCESS],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **env},
            umask=umask,
            capture_output=True,
            check=True,
        )
        return cast("list[str]", json.loads(done.stdout))

    here = digests(0o022, TZ="UTC", LC_ALL="C.UTF-8", PYTHONHASHSEED="1")
    there = digests(0o077, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="2", HOME="/nonexistent")
    assert here == there
    assert len(set(here)) == 2


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(
        st.one_of(
            st.integers(0, 1500),
            st.integers(MIB - 1500, MIB + 1500),
            st.integers(2 * MIB - 520, 2 * MIB + 520),
        ),
        max_size=4,
    ),
    most=st.sampled_from([700, 65_536, MIB - 1, MIB, MIB + 1]),
    compression=st.sampled_from(COMPRESSIONS),
)
def test_size_of_the_pieces_that_a_stream_gives_does_not_show(
    sizes: list[int], most: int, compression: Compression
) -> None:
    contents = [
        bytes([65 + index]) * (size - size // 3) + os.urandom(size // 3)
        for index, size in enumerate(sizes)
    ]
    whole, content = written([of_bytes(str(n), c) for n, c in enumerate(contents)], compression)
    pieces, _ = written([dribbled(str(n), c, most) for n, c in enumerate(contents)], compression)
    assert pieces == whole
    tar = unpacked(content, compression)
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        found = [cast(IO[bytes], archive.extractfile(item)).read() for item in archive]
    assert found == contents


def test_order_of_entries_is_kept() -> None:
    names = ["z", "a", "m/b", "m/a"]
    found = [item.name for item in members(of_bytes(name, b"") for name in names)]
    assert found == ["z", "a", "m", "m/b", "m/a"]


def test_compressor_id_changes_with_what_decides_the_bytes() -> None:
    ids = [
        writer.compressor_id(compression, effort)
        for compression in COMPRESSIONS
        for effort in ("fast", "dense")
    ]
    assert len({json.dumps(item) for item in ids}) == 4
    assert ids[0]["python-zstandard"] == zstandard.__version__
    assert json.loads(json.dumps(ids)) == ids


def test_other_version_of_the_compressor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstandard, "__version__", "0.1")
    with pytest.raises(ToolError, match=r"0\.1 .* 0\.25\.0") as error:
        written(FIXED, "zstd")
    assert error.value.remedy == "pip install zstandard==0.25.0"


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_dense_is_smaller_and_the_same_tar(compression: Compression) -> None:
    """The layer that each commit changes is compressed harder; its tar is any other layer's."""
    content = Path(writer.__file__).read_bytes()
    made = {}
    for effort in ("fast", "dense"):
        out = io.BytesIO()
        blob = writer.write([of_bytes("a", content)], out, compression, effort=effort)
        assert unpacked(out.getvalue(), compression)[512 : 512 + len(content)] == content
        made[effort] = blob
    assert made["dense"].size < made["fast"].size
    assert made["dense"].diff_id == made["fast"].diff_id


# -- what a reader finds ---------------------------------------------------------------------------


def test_tarfile_reads_modes_owners_times_and_links() -> None:
    found = {item.name: item for item in members(FIXED)}
    assert {item.mtime for item in found.values()} == {tar_header.MTIME}
    assert {(item.uname, item.gname) for item in found.values()} == {("", "")}
    tool, link, same, tmp = (
        found[name]
        for name in ("opt/venv/bin/tool", "opt/venv/bin/python", "opt/venv/bin/same", "tmp")
    )
    assert (tool.mode, tool.uid, tool.gid, tool.size) == (0o755, 0, 0, 10)
    assert (link.type, link.linkname, link.mode) == (tarfile.SYMTYPE, "/usr/bin/python3.11", 0o777)
    assert (same.type, same.linkname, same.size) == (tarfile.LNKTYPE, "opt/venv/bin/tool", 0)
    assert (tmp.mode, tmp.uid, tmp.gid) == (0o1777, 7, 8)


def test_missing_parents_come_once_and_before_their_children() -> None:
    found = members([of_bytes("a/b/c/one", b""), of_bytes("a/b/two", b""), of_bytes("a/x/y", b"")])
    assert [item.name for item in found] == [
        "a",
        "a/b",
        "a/b/c",
        "a/b/c/one",
        "a/b/two",
        "a/x",
        "a/x/y",
    ]
    directories = [item for item in found if item.isdir()]
    assert {(item.mode, item.uid, item.gid) for item in directories} == {(0o755, 0, 0)}


def test_equal_directory_is_written_once() -> None:
    found = members([of_bytes("a/f", b""), Entry("a", "dir", 0o755), Entry("a", "dir", 0o755)])
    assert [item.name for item in found] == ["a", "a/f"]


@pytest.mark.parametrize(
    "name",
    [
        "n" * 99, "n" * 100, "n" * 101, "n" * 256, "n" * 257,
        "d" * 155 + "/" + "n" * 100, "d" * 156 + "/" + "n" * 101,
        "/".join(["deep"] * 60), "ünïcødé/文件", "é" * 100, "back\\slash", "new\nline", " space ",
        "percent%2e%2e", "..hidden", "dots...", "surrogate\udcff",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["file", "symlink", "hardlink"])
def test_any_name_survives(name: str, kind: Kind) -> None:
    entries = {
        "file": [of_bytes(name, b"content")],
        "symlink": [of_symlink("link", name)],
        "hardlink": [of_bytes(name, b"content"), Entry("link", "hardlink", target=name)],
    }[kind]
    found = members(entries)[-1]
    assert (found.name if kind == "file" else found.linkname) == name
    assert found.mtime == tar_header.MTIME


def test_owner_and_size_beyond_a_plain_tar_field_survive() -> None:
    (found,) = members([Entry("f", uid=2**31, gid=2**22)])
    assert (found.uid, found.gid) == (2**31, 2**22)


def test_no_entries_make_an_empty_tar() -> None:
    blob, content = written([])
    assert unpacked(content) == bytes(1024)
    assert blob.unpacked == 1024


def test_gzip_header_names_no_file_no_time_and_no_system() -> None:
    _, content = written(FIXED, "gzip")
    assert content[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    crc, size = struct.unpack("<II", content[-8:])
    tar = gzip.decompress(content)
    assert (crc, size) == (zlib.crc32(tar), len(tar))


def test_zstd_frame_has_a_checksum() -> None:
    _, content = written(FIXED, "zstd")
    assert zstandard.get_frame_parameters(content).has_checksum


def test_progress_reports_each_byte_of_content_once() -> None:
    written_bytes: list[int] = []
    contents = [b"", b"x", bytes(3 * MIB + 1)]
    writer.write(
        [of_bytes(str(n), c) for n, c in enumerate(contents)],
        io.BytesIO(),
        "gzip",
        written_bytes.append,
    )
    assert sum(written_bytes) == 3 * MIB + 2
    assert all(step > 0 for step in written_bytes)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "/", "/etc/passwd", "..", "../up", "a/../../b", "a/..", ".", "./a", "a/./b", "a//b", "a/",
     "nul\0", "a/\0/b"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["file", "dir", "symlink", "hardlink"])
def test_path_that_is_not_inside_the_image_is_refused(path: str, kind: Kind) -> None:
    with pytest.raises(IntegrityError, match="not a path inside the image"):
        written([of_bytes("t", b""), Entry(path, kind, target="t")])


@pytest.mark.parametrize("second", ["file", "symlink", "hardlink", "dir"])
def test_path_that_occurs_twice_is_refused(second: Kind) -> None:
    with pytest.raises(IntegrityError, match="a/f: occurs twice"):
        written([of_bytes("a/f", b"1"), Entry("a/f", second, target="a/f")])


@pytest.mark.parametrize("second", ["file", "symlink", "hardlink"])
def test_file_in_place_of_a_directory_is_refused(second: Kind) -> None:
    with pytest.raises(IntegrityError, match="a: occurs twice"):
        written([of_bytes("a/f", b"1"), Entry("a", second, target="a/f")])


@pytest.mark.parametrize(
    "again", [Entry("a", "dir", 0o700), Entry("a", "dir", 0o755, uid=1), Entry("a", "dir", gid=1)]
)
def test_directory_with_another_mode_or_owner_is_refused(again: Entry) -> None:
    with pytest.raises(IntegrityError, match="a: occurs twice"):
        written([of_bytes("a/f", b""), again])


@pytest.mark.parametrize("kind", ["file", "symlink", "hardlink"])
def test_file_used_as_a_directory_is_refused(kind: Kind) -> None:
    entries = [of_bytes("t", b""), Entry("a", kind, target="t"), of_bytes("a/b/f", b"")]
    with pytest.raises(IntegrityError, match=f"a/b/f: its directory a is a {kind}"):
        written(entries)


def test_hard_link_before_its_target_is_refused() -> None:
    with pytest.raises(IntegrityError, match="links to f, which is not before it"):
        written([Entry("l", "hardlink", target="f"), of_bytes("f", b"")])


@pytest.mark.parametrize(
    ("excess", "message"),
    [(-1, "1 bytes over"), (1, "1 bytes short"), (MIB, "1048576 bytes short")],
)
@pytest.mark.parametrize("size", [1, 512, MIB, MIB + 1])
def test_content_of_another_size_is_refused(size: int, excess: int, message: str) -> None:
    entry = dataclasses.replace(of_bytes("f", bytes(size)), size=size + excess)
    with pytest.raises(IntegrityError, match=f"f: {message}"):
        written([entry])


@pytest.mark.parametrize("kind", ["dir", "symlink", "hardlink"])
def test_size_of_what_has_no_content_does_not_break_the_tar(kind: Kind) -> None:
    found = members(
        [of_bytes("t", b""), Entry("x", kind, size=512, target="t"), of_bytes("y", b"")]
    )
    assert [(item.name, item.size) for item in found] == [("t", 0), ("x", 0), ("y", 0)]


def test_stream_is_closed_after_use_and_after_failure() -> None:
    streams = [io.BytesIO(b"ab"), io.BytesIO(b"ab")]
    right = Entry("right", size=2, open=lambda: streams[0])
    wrong = Entry("wrong", size=3, open=lambda: streams[1])
    with pytest.raises(IntegrityError):
        written([right, wrong])
    assert all(stream.closed for stream in streams)


@pytest.mark.parametrize(
    "entry",
    [of_bytes(".wh.etc", b""), of_bytes("opt/.wh..wh..opq", b""), of_bytes("opt/.wh.a/b", b""),
     of_symlink("opt/venv/bin/.wh.python", "x"), Entry("opt/.wh.d", "dir", 0o755),
     Entry("opt/.wh..wh.plnk", "dir", 0o700)],
    ids=lambda entry: entry.path,
)  # fmt: skip
def test_no_source_of_entries_can_add_a_whiteout(entry: Entry) -> None:
    with pytest.raises(IntegrityError, match="whiteout"):
        written([entry])
