"""Images as directories: what is written, and what is refused."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from images.errors import IntegrityError, UsageError
from images.oci.descriptor import COMPRESSIONS, Blob, Compression
from images.oci.layer import tar_header, writer
from images.oci.layer.entry import Entry, of_bytes, of_symlink
from images.oci.store import store
from images.oci.store.store import Store
from tests.unit.layers import member, of_members, of_tar, unpacked


@pytest.fixture
def layout(tmp_path: Path) -> Store:
    return store.open_store(tmp_path / "store")


def of_entries(layout: Store, entries: Sequence[Entry], compression: Compression = "zstd") -> Blob:
    with layout.blobs.new_file() as (out, commit):
        blob = writer.write(entries, out, compression)
        commit(blob.digest)
    return blob


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_files_links_modes_and_owners(layout: Store, compression: Compression) -> None:
    root = unpacked(
        layout,
        of_entries(
            layout,
            [
                of_bytes("bin/tool", b"#!", 0o4755),
                Entry("etc/closed", "dir", 0o500),
                of_bytes("etc/closed/file", b"x" * 3_000_000, 0o440),
                Entry("etc/owned", "file", 0o644, uid=12, gid=34),
                Entry("bin/same", "hardlink", target="bin/tool"),
                of_symlink("bin/link", "/nowhere/at/all"),
            ],
            compression,
        ),
    )
    tool = (root / "bin/tool").stat()
    assert (stat.S_IMODE(tool.st_mode), tool.st_nlink, tool.st_mtime) == (
        0o755,
        2,
        tar_header.MTIME,
    )
    assert stat.S_IMODE((root / "etc/closed").stat().st_mode) == 0o500
    assert (root / "bin/link").readlink() == Path("/nowhere/at/all")
    if os.geteuid() == 0:
        assert (root / "etc/closed/file").read_bytes() == b"x" * 3_000_000
        owned = (root / "etc/owned").stat()
        assert (owned.st_uid, owned.st_gid) == (12, 34)


def test_later_layers_win(layout: Store) -> None:
    root = unpacked(
        layout,
        of_entries(layout, [of_bytes("a/file", b"old"), Entry("a/dir", "dir", 0o700)]),
        of_entries(layout, [of_bytes("a/file", b"new"), Entry("a/dir", "dir", 0o755)]),
    )
    assert (root / "a/file").read_bytes() == b"new"
    assert stat.S_IMODE((root / "a/dir").stat().st_mode) == 0o755


def test_a_replaced_link_is_not_written_through(layout: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    root = unpacked(
        layout,
        of_entries(layout, [of_symlink("link", str(outside))]),
        of_entries(layout, [of_bytes("link", b"a file now")]),
    )
    assert (root / "link").read_bytes() == b"a file now"
    assert outside.read_text() == "untouched"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([member("/etc/absolute")], "/etc/absolute"),
        ([member("../above")], "../above"),
        ([member("a/../../above")], "a/../../above"),
        ([member("link", tarfile.SYMTYPE, "/tmp"), member("link/through")], "link/through"),
        ([member("name", tarfile.LNKTYPE, "/etc/passwd")], "name"),
        ([member("name", tarfile.LNKTYPE, "../../etc/passwd")], "name"),
        ([member("l", tarfile.SYMTYPE, "/etc/passwd"), member("h", tarfile.LNKTYPE, "l")], "h:"),
        ([member("no/parent")], "no/parent"),
        ([member("file"), member("file/below")], "file/below"),
        ([member("d", tarfile.DIRTYPE), member("d")], "d:"),
        ([member(".wh.gone")], r"\.wh\.gone"),
        ([member("null", tarfile.CHRTYPE)], "null"),
        ([member("pipe", tarfile.FIFOTYPE)], "pipe"),
    ],
)
def test_hostile_and_foreign_members_are_refused(
    layout: Store, tmp_path: Path, members: list[tarfile.TarInfo], said: str
) -> None:
    before = {path.name for path in tmp_path.iterdir()} | {"root"}
    with pytest.raises(IntegrityError, match=said):
        unpacked(layout, of_members(layout, *members))
    assert {path.name for path in tmp_path.iterdir()} == before


def test_damaged_layers_are_refused(layout: Store) -> None:
    blob = of_entries(layout, [of_bytes("file", os.urandom(3_000_000))])
    path = layout.blobs.path(blob.digest)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:1_000_000] + bytes(1000) + whole[1_001_000:]):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=path.name):
            unpacked(layout, blob)
        for left in (layout.path.parent / "root").iterdir():
            left.unlink()
    with pytest.raises(IntegrityError, match="not a tar"):
        unpacked(layout, of_tar(layout, b"no tar at all" * 100))


def test_destination_must_be_empty(layout: Store, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "mine").touch()
    with pytest.raises(UsageError, match="not an empty directory"):
        unpacked(layout)
