"""Layers, packages and lists larger than software is: refused, and not read into memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from images.build.conflicts import wheel_files
from images.content.custom_base import file_tree
from images.errors import IntegrityError, LockError, UsageError
from images.export.bundle import delta
from images.formats import deb_file, sdist_archive, sdist_metadata
from images.oci.layer.tar_stream import TarStream
from images.unbundle.destinations.base_layers import Changes
from images.unbundle.destinations.layer_tree import Tree
from images.unbundle.sources import layer_source
from images.util import limits
from tests.unit.fake_debs import ar_of

MB = 1 << 20

READERS: dict[str, Callable[[Path, Iterator[bytes]], object]] = {
    "custom base, read": lambda place, pieces: file_tree.Tree(lambda _: 0).add_layer(pieces),
    "custom base, unpacked": lambda place, pieces: Changes(place).apply(pieces),
    "own layer, unpacked": lambda place, pieces: Tree(place).apply(0, pieces),
}


def head(kind: bytes, size: int, name: str = "name") -> bytes:
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def endless(first: bytes, then: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield then


def chained() -> Iterator[bytes]:
    """A pax head before a pax head before a pax head."""
    return endless(b"", head(b"x", 10) + b"10 a=bcde\n".ljust(512, b"\0"))


def sparse() -> Iterator[bytes]:
    """A map of a sparse file that goes on."""
    start = bytearray(head(b"S", 0))
    start[482] = 1
    start[148:156] = b" " * 8
    start[148:156] = b"%06o\0 " % sum(start)
    more = bytearray((b"00000000001\0" * 42).ljust(512, b"\0"))
    more[504] = 1
    return endless(bytes(start), bytes(more) * 100)


def remembered() -> Iterator[bytes]:
    """Records for all members that follow, each another one, before each member."""
    for number in range(10_000):
        record = f"15 k{number:05d}=abcd\n".encode()
        yield head(b"g", len(record)) + record.ljust(512, b"\0") + head(b"5", 0, f"d{number}")


BOMBS: dict[str, Callable[[], Iterator[bytes]]] = {
    "pax": lambda: endless(head(b"x", 3 << 30), b" " * MB),
    "long name": lambda: endless(head(b"L", 3 << 30), b" " * MB),
    "long link": lambda: endless(head(b"K", 3 << 30), b" " * MB),
    "chain of heads": chained,
    "sparse": sparse,
    "global records": remembered,
    "size of a member": lambda: endless(head(b"0", limits.LAYER_BYTES + 1), bytes(MB)),
    "path": lambda: iter([head(b"L", 5000) + (b"d/" * 2500).ljust(5120, b"\0") + head(b"0", 0)]),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_tar_that_would_fill_memory_or_disk_is_refused(
    tmp_path: Path, bomb: str, reader: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            READERS[reader](tmp_path, BOMBS[bomb]())
        assert tracemalloc.get_traced_memory()[1] < 64 * MB
    finally:
        tracemalloc.stop()


def test_more_members_than_an_image_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LAYER_FILES", 50)
    many = (head(b"0", 0, f"f{number}") for number in range(60))
    with pytest.raises(IntegrityError, match="51 files; 50 are the limit"):
        list(TarStream(many).members())
    deep = head(b"0", 0, "/".join("d" * 45))
    with pytest.raises(IntegrityError, match="files; 50 are the limit"):
        file_tree.Tree(lambda _: 0).add_layer(iter([deep + head(b"0", 0, "e/" * 10 + "f")]))


def test_zeros_behind_the_end_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LAYER_BYTES", 50 * MB)
    with pytest.raises(IntegrityError, match="bytes; 52428800 are the limit"):
        list(TarStream(endless(head(b"0", 0), bytes(MB))).members())


def test_unread_content_is_not_kept() -> None:
    def tar() -> Iterator[bytes]:
        yield head(b"0", 256 * MB)
        yield from (bytes(MB) for _ in range(256))
        yield bytes(1024)

    tracemalloc.start()
    assert [member.size for member in TarStream(tar()).members()] == [256 * MB]
    assert tracemalloc.get_traced_memory()[1] < 32 * MB
    tracemalloc.stop()


@pytest.mark.parametrize(
    "records", [{"mtime": "inf"}, {"mtime": "nan"}, {"path": "a\0b"}, {"GNU.sparse.map": "x"}]
)
@pytest.mark.parametrize("reader", ["custom base, unpacked", "own layer, unpacked"])
def test_a_member_that_no_file_system_takes_is_an_error(
    tmp_path: Path, records: dict[str, str], reader: str
) -> None:
    info = tarfile.TarInfo("a")
    info.pax_headers = records
    content = info.tobuf(tarfile.PAX_FORMAT)
    with pytest.raises(IntegrityError):
        READERS[reader](tmp_path, iter([content, bytes(1024)]))


def test_gzip_of_several_members_is_read_by_the_unpacker(tmp_path: Path) -> None:
    plain = os.urandom(200_000) + bytes(100_000)
    cuts = [*range(0, len(plain), 7_000)]
    packed = b"".join(gzip.compress(plain[at : at + 7_000]) for at in cuts) + gzip.compress(b"")
    for size in (len(packed), 1000):
        pieces = (packed[at : at + size] for at in range(0, len(packed), size))
        assert b"".join(layer_source.gunzip(pieces)) == plain
    with pytest.raises(IntegrityError, match="its end is missing"):
        list(layer_source.gunzip(iter([packed[:-30]])))
    with pytest.raises(IntegrityError, match="damaged gzip"):
        list(layer_source.gunzip(iter([packed + b"rest"])))


def test_a_package_whose_member_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    tar = gzip.compress(head(b"x", 900 * MB) + bytes(8 * MB))
    path = tmp_path / "x.deb"
    path.write_bytes(ar_of({"debian-binary": b"2.0\n", "data.tar.gz": tar}))
    with pytest.raises(IntegrityError, match=r"not a \.deb: .* a header of more than"):
        list(deb_file.members(path))


def test_an_inventory_without_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inventory"
    path.write_bytes(b'["' + b"0" * (1 << 17))
    for inventory in (path, Path("/dev/zero")):
        with pytest.raises(UsageError, match="not an inventory"):
            delta.read_inventories([inventory])
    out = io.StringIO()
    json.dump({"files": 0}, out)
    path.write_text(out.getvalue())
    assert delta.read_inventories([path]).sizes == frozenset()


def test_an_sdist_whose_head_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0.tar.gz"
    for content in (head(b"x", 900 * MB) + bytes(8 * MB), b"".join(islice(chained(), 2000))):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(IntegrityError, match="not an sdist"):
            sdist_archive.unpacked(path, tmp_path / "source")
        with pytest.raises(LockError, match="its requirements cannot be read"):
            sdist_metadata.requires(path)


def test_entry_points_that_unpack_without_end_are_not_read_for_a_comparison(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("demo-1.0.dist-info/entry_points.txt", bytes(64 * MB))
    with pytest.raises(IntegrityError, match=r"entry_points\.txt: \d+ bytes; \d+ are the limit"):
        len(wheel_files.of(path, "demo", misrecorded=False).paths)
