"""Files that the destination has do not travel, and are taken from there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from images.oci.image import Image
from images.oci.store import store
from images.oci.store.maintenance import verify
from images.oci.store.store import Store
from images.unbundle.sources import inventory
from tests.damage import flip
from tests.unit import bundles
from tests.unit.bundles import make, parts, record, run, tree


@pytest.fixture
def elsewhere(small: tuple[Store, Image], tmp_path: Path) -> Path:
    """An inventory of another directory with some of the image's files, under other names."""
    place = tmp_path / "site packages"
    place.mkdir()
    (place / 'the "tool"\n').write_bytes(bundles.noise(60_000, 1))
    (place / "closed").write_bytes(b"x" * 300_000)
    (place / "nul").write_bytes(bytes(3_000_000))
    (place / "other").write_bytes(bundles.noise(70_000, 77))
    done = subprocess.run(
        [bundles.PYTHON, inventory.__file__, str(place)], capture_output=True, text=True, check=True
    )
    assert "4 files" in done.stderr
    (tmp_path / "inventory").write_text(done.stdout)
    return tmp_path / "inventory"


def test_files_that_the_destination_has_do_not_travel(
    small: tuple[Store, Image], elsewhere: Path, tmp_path: Path, expected: object
) -> None:
    layout, image = small
    made = make(layout, image, tmp_path / "out", have=[elsewhere])
    assert made.recipes == ("layer 0", "layer 1")
    options = ("--rootfs", tmp_path / "root", "--layout", tmp_path / "layout")
    done = run(tmp_path / "out", *options)
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected
    found = store.open_store(tmp_path / "layout", create=False)
    assert verify(found) == []
    rebuilt = found.load("small")
    assert rebuilt.config_digest == image.config_digest
    assert rebuilt.manifest_digest != image.manifest_digest
    assert record(tmp_path / "root")["manifest_digest"] == image.manifest_digest
    head = json.loads(rebuilt_manifest(found))
    assert head["annotations"]["roll.bundle.manifest"] == image.manifest_digest
    kinds = [item["mediaType"].rpartition(".")[2] for item in head["layers"]]
    assert kinds == ["tar", "tar", "tar+zstd"]
    assert [item["digest"] for item in head["layers"]] == [
        image.layers[0].blob.diff_id,
        image.layers[1].blob.diff_id,
        image.layers[2].blob.digest,
    ]
    assert "2 layers were rebuilt" in done.out
    assert image.config_digest in done.out


def rebuilt_manifest(found: Store) -> bytes:
    return found.blobs.read(found.images()["small"])


def test_a_layer_that_was_rebuilt_once_is_found_as_a_tar(
    small: tuple[Store, Image], elsewhere: Path, tmp_path: Path, expected: object
) -> None:
    layout, image = small
    make(layout, image, tmp_path / "out", have=[elsewhere])
    assert run(tmp_path / "out", "--layout", tmp_path / "layout").code == 0
    listed = run(tmp_path / "out", "inventory", tmp_path / "layout" / "blobs")
    (tmp_path / "second").write_text(listed.out)
    made = make(layout, image, tmp_path / "again", have=[tmp_path / "second"])
    assert made.left_out_layers == ("layer 0", "layer 1", "layer 2")
    assert made.bytes == 0
    assert parts(tmp_path / "again") == []
    assert run(tmp_path / "again", "--rootfs", tmp_path / "root").code == 0
    assert tree(tmp_path / "root") == expected


def test_a_file_that_changed_since_the_inventory_is_reported_and_can_be_elsewhere(
    small: tuple[Store, Image], elsewhere: Path, tmp_path: Path, expected: object
) -> None:
    make(*small, tmp_path / "out", have=[elsewhere])
    place = tmp_path / "site packages"
    flip(place / "closed")
    done = run(tmp_path / "out", "--rootfs", tmp_path / "root")
    assert done.code == 3
    assert str(place / "closed") in done.said
    assert "--from DIR" in done.said
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "more" / "deep" / "decoy").write_bytes(b"y" * 300_000)
    (tmp_path / "more" / "deep" / "name").write_bytes(b"x" * 300_000)
    done = run(tmp_path / "out", "--rootfs", tmp_path / "root", "--from", tmp_path / "more")
    assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected


def test_everything_can_be_there_already(
    small: tuple[Store, Image], tmp_path: Path, expected: object
) -> None:
    """An earlier root file system as source: heads and small files travel, and little else."""
    layout, image = small
    with (tmp_path / "inventory").open("w") as out:
        inventory.write(inventory.take([tmp_path / "expected"], 2, 1), out)
    made = make(layout, image, tmp_path / "out", have=[tmp_path / "inventory"])
    assert made.bytes < 2_000
    assert run(tmp_path / "out", "--rootfs", tmp_path / "root").code == 0
    assert tree(tmp_path / "root") == expected
