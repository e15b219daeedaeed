"""Each way to read zstd where a bundle arrives."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.oci.layer.entry import of_bytes
from images.oci.store import store
from images.unbundle import document
from tests.damage import flip
from tests.unit import bundles
from tests.unit.bundles import host_library, make, run, tree


@pytest.mark.parametrize("way", ["host", "program"])
def test_each_way_to_read_zstd(out: Path, tmp_path: Path, expected: object, way: str) -> None:
    done = run(out, "--rootfs", tmp_path / "root", "--zstd", way)
    if done.code == 8:
        pytest.skip(f"this machine has no such way: {done.said}")
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected


@pytest.fixture
def carrying(tmp_path: Path) -> Path:
    """A bundle whose image has a libzstd, as the Debian base does."""
    layout = store.open_store(tmp_path / "carrying-store")
    library = host_library().read_bytes()
    base = bundles.add(layout, [of_bytes("usr/lib/x86_64-linux-gnu/libzstd.so.1.5.4", library)])
    make(layout, bundles.save(layout, "carrying", base), tmp_path / "carrying")
    return tmp_path / "carrying"


def test_the_bundle_has_its_own_libzstd(carrying: Path, tmp_path: Path) -> None:
    assert (carrying / "libzstd.so.1").read_bytes() == host_library().read_bytes()
    assert "glibc 2." in document.decode((carrying / "bundle.json").read_bytes()).libzstd_needs
    done = run(carrying, "--rootfs", tmp_path / "root", "--zstd", "carried")
    assert done.code == 0, done.said


def test_a_damaged_libzstd_is_never_loaded(carrying: Path, tmp_path: Path) -> None:
    flip(carrying / "libzstd.so.1")
    assert run(carrying, "check").code == 6
    done = run(carrying, "--rootfs", tmp_path / "root", "--zstd", "carried")
    assert done.code == 8
    assert "carried: not found" in done.said
    assert "install libzstd" in done.said
    (carrying / "libzstd.so.1").unlink()
    assert run(carrying, "check").code == 3
    assert run(carrying, "--rootfs", tmp_path / "root", "--zstd", "carried").code == 8


def test_gzip_alone_needs_no_zstd(tmp_path: Path) -> None:
    layout = store.open_store(tmp_path / "store")
    blob = bundles.add(layout, [of_bytes("a", bytes(3_000_000))], "gzip")
    make(layout, bundles.save(layout, "gz", blob), tmp_path / "out")
    assert not (tmp_path / "out" / "libzstd.so.1").exists()
    assert run(tmp_path / "out", "--rootfs", tmp_path / "root", "--zstd", "carried").code == 0
