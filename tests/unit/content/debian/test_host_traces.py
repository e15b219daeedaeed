"""What the builder's machine leaves in a new root: none of it reaches the base."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from images.content.debian import host_traces, rootfs
from images.errors import IntegrityError
from images.oci.layer import writer
from images.oci.layer.entry import Entry, of_bytes, of_symlink

ACCOUNTS = of_bytes("etc/passwd", b"root:x:0:0::/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/x\n")
IMAGES_OWN = (
    Entry("etc", "dir", 0o755),
    ACCOUNTS,
    Entry("run", "dir", 0o755),
    Entry("run/lock", "dir", 0o1777),
    of_bytes("usr/bin/x", b"x", 0o755),
    of_bytes("var/lib/dpkg/status", b"Package: x\n"),
)
# As Debian 12's mmdebstrap and apt leave them, and as Ubuntu 22.04's do on an upgraded machine.
ONE = (
    Entry("dev/pts", "dir", 0o755),
    of_bytes("var/cache/apt/archives/lock", b"", 0o640),
    Entry("var/cache/apt/archives/partial", "dir", 0o700, uid=42),
    Entry("var/lib/apt/lists/partial", "dir", 0o700, uid=42),
    of_bytes("var/lib/dpkg/arch", b"amd64\n"),
)
OTHER = (
    of_symlink("dev/core", "/proc/kcore"),
    of_bytes("run/adduser", b""),
    of_bytes("run/lock/apt", b""),
    Entry("var/cache/apt/archives/partial", "dir", 0o755, uid=104, gid=50),
    of_bytes("var/cache/apt/pkgcache.bin", b"of this apt"),
    Entry("var/lib/apt/lists/auxfiles", "dir", 0o755),
    Entry("var/lib/apt/lists/partial", "dir", 0o700, uid=104),
)


def tar_of(path: Path, entries: Sequence[Entry]) -> Path:
    """A tar as mmdebstrap writes it."""
    kinds = {"dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "file": tarfile.REGTYPE}
    with tarfile.open(path, "w") as tar:
        for entry in entries:
            info = tarfile.TarInfo(f"./{entry.path}")
            info.type, info.mode, info.size = kinds[entry.kind], entry.mode, entry.size
            info.uid, info.gid, info.linkname = entry.uid, entry.gid, entry.target
            tar.addfile(info, entry.open() if entry.kind == "file" else None)
    return path


def diff_id(tar: Path) -> str:
    return writer.write(rootfs.entries(tar), io.BytesIO(), "gzip").diff_id


def test_two_machines_make_one_layer(tmp_path: Path) -> None:
    one = tar_of(tmp_path / "one.tar", [*IMAGES_OWN, *ONE])
    other = tar_of(tmp_path / "other.tar", [*IMAGES_OWN, *OTHER])
    assert diff_id(one) == diff_id(other)


def test_what_the_images_own_programs_make_decides() -> None:
    changed = replace(IMAGES_OWN[-1], mode=0o600)
    found = {entry.path: entry for entry in host_traces.replaced([*IMAGES_OWN[:-1], changed])}
    assert found["var/lib/dpkg/status"].mode == 0o600
    assert found["var/lib/apt/lists/partial"].uid == 42
    assert found["var/lib/dpkg/arch"].open().read() == b"amd64\n"


def test_apts_directories_belong_to_the_images_account() -> None:
    accounts = of_bytes("etc/passwd", b"_apt:x:107:65534::/nonexistent:/x\n")
    found = {entry.path: entry for entry in host_traces.replaced([accounts, *OTHER])}
    assert found["var/cache/apt/archives/partial"] == Entry(
        "var/cache/apt/archives/partial", "dir", 0o700, uid=107
    )


def test_entries_stay_sorted() -> None:
    paths = [entry.path.split("/") for entry in host_traces.replaced([*IMAGES_OWN, *OTHER])]
    assert paths == sorted(paths)
    assert len({tuple(path) for path in paths}) == len(paths)


def test_a_base_without_apts_account_is_refused() -> None:
    with pytest.raises(IntegrityError, match="_apt"):
        list(host_traces.replaced([of_bytes("etc/passwd", b"root:x:0:0::/:/x\n")]))
