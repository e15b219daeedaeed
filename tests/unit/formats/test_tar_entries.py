"""Entries from a tar: sorted, with owners and links, whatever the order in the tar."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from images.errors import IntegrityError
from images.formats import tar_entries
from images.oci.layer import writer
from images.oci.layer.entry import Entry


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def entries_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> list[Entry]:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return list(tar_entries.entries(path))


def test_entries_are_sorted_parents_first_with_owners(tmp_path: Path) -> None:
    found = entries_of(
        tmp_path / "x.tar",
        (member("./a-b"), b"2"),
        (member("./a/x", uid=1000, gid=50, mode=0o4755), b"content"),
        (member("./a", tarfile.DIRTYPE, mode=0o1777), b""),
        (member("./", tarfile.DIRTYPE, mode=0o755), b""),
        (member("./lib", tarfile.SYMTYPE, linkname="usr/lib"), b""),
    )
    assert [entry.path for entry in found] == ["a", "a/x", "a-b", "lib"]
    directory, file, _, link = found
    assert (directory.kind, directory.mode) == ("dir", 0o1777)
    assert (file.mode, file.uid, file.gid, file.size) == (0o4755, 1000, 50, 7)
    with file.open() as stream:
        assert stream.read() == b"content"
    assert (link.kind, link.target) == ("symlink", "usr/lib")


def test_device_nodes_are_left_out(tmp_path: Path) -> None:
    found = entries_of(
        tmp_path / "x.tar",
        (member("./dev", tarfile.DIRTYPE), b""),
        (member("./dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        (member("./dev/sda", tarfile.BLKTYPE), b""),
    )
    assert [entry.path for entry in found] == ["dev"]


def test_the_first_of_several_names_is_the_file(tmp_path: Path) -> None:
    found = entries_of(
        tmp_path / "x.tar",
        (member("./m"), b"same"),
        (member("./z", tarfile.LNKTYPE, linkname="./m"), b""),
        (member("./b", tarfile.LNKTYPE, linkname="./m"), b""),
    )
    assert [(entry.path, entry.kind, entry.target) for entry in found] == [
        ("b", "file", ""),
        ("m", "hardlink", "b"),
        ("z", "hardlink", "b"),
    ]
    with found[0].open() as stream:
        assert stream.read() == b"same"


def test_the_order_in_the_tar_does_not_matter(tmp_path: Path) -> None:
    one = entries_of(tmp_path / "1.tar", (member("./a"), b"1"), (member("./b"), b"2"))
    two = entries_of(tmp_path / "2.tar", (member("./b"), b"2"), (member("./a"), b"1"))
    assert [(entry.path, entry.size) for entry in one] == [
        (entry.path, entry.size) for entry in two
    ]


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE])
def test_what_a_layer_cannot_hold_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(IntegrityError, match="cannot hold"):
        entries_of(tmp_path / "x.tar", (member("./fifo", kind), b""))


def test_a_broken_tar_is_an_integrity_error(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(IntegrityError, match="cannot be read"):
        list(tar_entries.entries(tmp_path / "x.tar"))


def hostile_tar(*members: tuple[str, bytes, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info)
    return out.getvalue()


HOSTILE = {
    "dots": hostile_tar(("../../evil", tarfile.REGTYPE, "")),
    "absolute": hostile_tar(("/etc/evil", tarfile.REGTYPE, "")),
    "link to nothing": hostile_tar(("a", tarfile.LNKTYPE, "nothing")),
    "link out": hostile_tar(("a", tarfile.LNKTYPE, "../../etc/passwd")),
    "link to itself": hostile_tar(("a", tarfile.LNKTYPE, "a")),
    "link to a link": hostile_tar(("a", tarfile.LNKTYPE, "b"), ("b", tarfile.SYMTYPE, "/etc")),
    "twice": hostile_tar(("a", tarfile.REGTYPE, ""), ("./a", tarfile.REGTYPE, "")),
    "below a file": hostile_tar(("a", tarfile.REGTYPE, ""), ("a/b", tarfile.REGTYPE, "")),
    "fifo": hostile_tar(("a", tarfile.FIFOTYPE, "")),
    "sparse": hostile_tar(("a", tarfile.GNUTYPE_SPARSE, "")),
    "no name": hostile_tar(("", tarfile.REGTYPE, "")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tar_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "base.tar"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(IntegrityError):
        writer.write(tar_entries.entries(path), io.BytesIO(), "gzip")
