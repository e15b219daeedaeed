"""Complete bundles: the unpacker as a program, in a Python that has no module of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images.oci.image import Image
from images.oci.layer.entry import of_bytes
from images.oci.store import store
from images.oci.store.maintenance import verify
from images.oci.store.store import Store
from tests.directories import open_to_all
from tests.unit import bundles
from tests.unit.bundles import make, old_python, parts, record, run, tree


def test_rootfs_is_the_image(
    small: tuple[Store, Image], out: Path, tmp_path: Path, expected: object
) -> None:
    _, image = small
    done = run(out, "--rootfs", tmp_path / "root", umask=0o077)
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o755
    assert record(tmp_path / "root") == {
        "complete": True,
        "config_digest": image.config_digest,
        "env": dict(image.env),
        "labels": dict(image.labels),
        "manifest_digest": image.manifest_digest,
        "ref": "small",
        "setuid": False,
    }
    assert f"{tmp_path / 'root'}.enter" in done.out
    assert image.manifest_digest in done.said
    assert not (tmp_path / "root.unpack").exists()


def test_again_changes_nothing_and_needs_no_parts(out: Path, tmp_path: Path) -> None:
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    before = (tmp_path / "root" / "bin" / "tool").stat()
    for path in parts(out):
        path.unlink()
    assert run(out, "--rootfs", tmp_path / "root").code == 0
    assert (tmp_path / "root" / "bin" / "tool").stat() == before


def test_layout_is_the_store_again(small: tuple[Store, Image], out: Path, tmp_path: Path) -> None:
    layout, image = small
    done = run(out, "--layout", tmp_path / "layout")
    assert done.code == 0, done.said
    found = store.open_store(tmp_path / "layout", create=False)
    assert found.images() == {"small": image.manifest_digest}
    assert verify(found) == []
    for item in image.layers:
        original = layout.blobs.path(item.blob.digest).read_bytes()
        assert found.blobs.path(item.blob.digest).read_bytes() == original
    left = {path.name for path in (tmp_path / "layout").iterdir()}
    assert left == {"oci-layout", "index.json", "blobs", ".roll"}
    assert f"oci:{tmp_path / 'layout'}:small" in done.out


def test_layout_and_rootfs_at_once(
    small: tuple[Store, Image], out: Path, tmp_path: Path, expected: object
) -> None:
    options = ("--layout", tmp_path / "layout", "--rootfs", tmp_path / "root", "--remove-parts")
    assert run(out, *options).code == 0
    assert parts(out) == []
    assert tree(tmp_path / "root") == expected
    # A second root comes from the layout: the parts are gone.
    more = run(out, "--rootfs", tmp_path / "more")
    assert more.code == 3
    assert run(out, "--rootfs", tmp_path / "more", "--from", tmp_path / "layout").code == 0
    assert tree(tmp_path / "more") == expected


def test_layout_without_layers_describes_the_image(
    small: tuple[Store, Image], out: Path, tmp_path: Path
) -> None:
    for path in parts(out):
        path.unlink()
    done = run(out, "--layout", tmp_path / "layout", "--no-layers")
    assert done.code == 0, done.said
    image = store.open_store(tmp_path / "layout", create=False).load("small")
    assert image.manifest_digest == small[1].manifest_digest
    assert image.env == small[1].env
    assert run(out, "--rootfs", tmp_path / "root", "--no-layers").code == 2


def test_layout_takes_a_second_image(small: tuple[Store, Image], out: Path, tmp_path: Path) -> None:
    layout, image = small
    assert run(out, "--layout", tmp_path / "layout").code == 0
    more = bundles.add(layout, [of_bytes("new", bundles.noise(50_000, 9))])
    newer = bundles.save(layout, "newer", *(item.blob for item in image.layers), more)
    digests = [item.blob.digest for item in image.layers]
    made = make(layout, newer, tmp_path / "second", since=digests)
    assert made.bytes == more.size
    # What --since left out is found where the first bundle brought it.
    assert run(tmp_path / "second", "--layout", tmp_path / "layout").code == 0
    found = store.open_store(tmp_path / "layout", create=False)
    assert found.images() == {
        "small": image.manifest_digest,
        "newer": newer.manifest_digest,
    }
    assert verify(found) == []
    alone = run(tmp_path / "second", "--rootfs", tmp_path / "root")
    assert alone.code == 3
    assert "--from DIR" in alone.said
    assert "layer 1" in alone.said
    options = ("--rootfs", tmp_path / "root", "--from", tmp_path / "layout")
    assert run(tmp_path / "second", *options).code == 0
    assert (tmp_path / "root" / "new").read_bytes() == bundles.noise(50_000, 9)


def test_with_the_oldest_python(out: Path, tmp_path: Path, expected: object) -> None:
    python = old_python()
    done = run(out, "--rootfs", tmp_path / "root", python=python)
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected
    assert run(out, "check", python=python).code == 0
    assert run(out, "inventory", tmp_path / "root", python=python).code == 0


def test_as_an_ordinary_user(out: Path, expected: dict[str, object]) -> None:
    if os.geteuid() != 0:
        pytest.skip("the tests run as an ordinary user already")
    with open_to_all() as opened:
        bundle = shutil.copytree(out, opened / "bundle")
        place = opened / "of user"
        place.mkdir()
        os.chown(place, 12345, 12345)
        command = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
        command += [bundles.PYTHON, str(bundle / "unpack.py"), "--rootfs", str(place / "root")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        root = place / "root"
        assert tree(root).keys() == expected.keys()
        owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in root.rglob("*")}
        assert owners == {(12345, 12345)}


@given(
    sizes=st.lists(st.integers(0, 1500), min_size=0, max_size=4),
    part_size=st.integers(5, 3000),  # of one byte there would be thousands, each synced to disk
    aligned=st.booleans(),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_part_size_fits_any_layers(
    tmp_path: Path, sizes: list[int], part_size: int, aligned: bool
) -> None:
    """Also where parts end as layers do."""
    place = tmp_path / "any"
    shutil.rmtree(place, ignore_errors=True)
    layout = store.open_store(place / "store")
    blobs = [
        bundles.add(layout, [of_bytes(f"f{number}", bundles.noise(size, number))])
        for number, size in enumerate(sizes)
    ]
    if aligned and blobs:
        part_size = blobs[0].size
    image = bundles.save(layout, "any", *blobs)
    made = make(layout, image, place / "out", part_size)
    assert made.bytes == sum(blob.size for blob in blobs)
    done = run(place / "out", "--rootfs", place / "root")
    assert done.code == 0, done.said
    found = {path.name: path.read_bytes() for path in (place / "root").iterdir()}
    assert found == {f"f{number}": bundles.noise(size, number) for number, size in enumerate(sizes)}
