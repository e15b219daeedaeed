"""The whole flow on a small real target: real base, compiler, wheels and sdist.

What may go wrong with it is in tests/faults, on a target that takes a second.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from images.build import base, layer_recipes
from images.inputs.lock import base_lock, cuda_lock, target_lock
from images.inputs.matrix.load import load
from images.oci.layer.entry import of_bytes
from images.oci.layer.writer import write
from images.oci.store import store as stores
from tests.damage import flip
from tests.integration.conftest import MATRIX, TARGET, Cli, SmallImage, other_cache

HEAVY = ("Debian bookworm", "CUDA compiler 12.4")


def blobs(store: Path) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every blob."""
    found = (store / "blobs" / "sha256").iterdir()
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def test_document_names_what_the_store_holds(small: SmallImage) -> None:
    document = small.document
    assert document["target"] == TARGET
    assert Path(document["layout"]) == small.cli.store
    index = json.loads((small.cli.store / "index.json").read_text())
    images = [item for item in index["manifests"] if "artifactType" not in item]
    assert [item["digest"] for item in images] == [document["manifest_digest"]]
    for layer in document["layers"]:
        blob = small.cli.store / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
        assert blob.stat().st_size == layer["size"], layer["title"]
        assert layer["reused"] is False
    assert [layer["title"] for layer in document["layers"]][:2] == list(HEAVY)
    assert document["layers"][-1]["title"] == "roll_runtime"


def test_second_build_makes_nothing(small: SmallImage) -> None:
    before = blobs(small.cli.store)
    again = small.cli.build()
    assert again["manifest_digest"] == small.document["manifest_digest"]
    assert all(layer["reused"] for layer in again["layers"])
    assert blobs(small.cli.store) == before


def test_image_has_its_sbom_and_provenance(small: SmallImage) -> None:
    """The SBOM names each distribution of the lock, by the hash that the lock has."""
    digest = small.document["manifest_digest"].removeprefix("sha256:")
    sbom = json.loads(small.cli.run("sbom", "--target", TARGET).stdout)
    assert sbom["metadata"]["component"]["version"] == "0.5.2"
    hashes = {item["hashes"][0]["content"] for item in sbom["components"] if "hashes" in item}
    lock = (MATRIX.parent / f"{TARGET}.txt").read_text()
    locked = re.findall(r"^[^#].*--hash=sha256:([0-9a-f]{64})", lock, re.MULTILINE)
    assert len(locked) > 1
    assert set(locked) < hashes
    statement = json.loads(small.cli.run("provenance", "--target", TARGET).stdout)
    assert statement["subject"][0]["digest"] == {"sha256": digest}
    metadata = statement["predicate"]["runDetails"]["metadata"]
    layers = len(small.document["layers"])
    assert metadata["roll_layers"] == {"made": layers, "reused": 0}
    assert metadata["startedOn"] < metadata["finishedOn"]


def stand_in(store: Path, titles: Sequence[str]) -> None:
    """Let a store know layers with these titles in gzip, so that they need not be made."""
    found = load(MATRIX)
    locked = target_lock.read(found, found.target(TARGET))
    layout = stores.open_store(store)
    debs = base_lock.read()
    lowest = base.debian(debs)
    for recipe in layer_recipes.recipes(locked, debs, cuda_lock.read("12.4"), "gzip", lowest):
        if recipe.title in titles:
            with layout.blobs.new_file() as (out, commit):
                blob = write([of_bytes("stand-in", recipe.title.encode())], out, "gzip")
                commit(blob.digest)
            layout.layer_keys.remember(recipe.key, blob)


def test_gzip_holds_the_same_files(small: SmallImage, tmp_path: Path) -> None:
    """But for base and compiler, whose bytes a compressor sees as it sees the others'."""
    cli = small.copy_to(tmp_path, keep=())
    stand_in(cli.store, HEAVY)
    other = cli.build("--compression", "gzip")["layers"]
    first = small.document["layers"]
    ours, theirs = (
        {item["title"]: item["diff_id"] for item in layers if item["title"] not in HEAVY}
        for layers in (first, other)
    )
    assert ours == theirs
    assert {item["media_type"] for item in other} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert cli.verified()


def test_interrupted_by_the_user(small: SmallImage, tmp_path: Path) -> None:
    cli = small.copy_to(tmp_path, keep=HEAVY)
    command = cli.command("build", "--target", TARGET)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as build:
        time.sleep(1)
        build.send_signal(signal.SIGINT)
        _, said = build.communicate(timeout=60)
    assert build.returncode == 130
    assert "Traceback" not in said
    assert "run the same command again to resume" in said


def test_a_corrupted_wheel_is_named_and_replaced(small: SmallImage, tmp_path: Path) -> None:
    cache = other_cache(tmp_path)
    cli = Cli(small.copy_to(tmp_path, keep=HEAVY).store, cache)
    (wheel,) = cache.glob("*/sglang-0.5.2-py3-none-any.whl")
    flip(wheel)

    failed = cli.run("build", "--target", TARGET)
    assert failed.returncode == 6
    assert "SHA256 mismatch for sglang-0.5.2-py3-none-any.whl" in failed.stderr
    assert f"rm {wheel}" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert cli.verified()

    wheel.unlink()
    assert cli.build()["manifest_digest"] == small.document["manifest_digest"]


def test_offline_without_the_files(small: SmallImage, tmp_path: Path) -> None:
    cli = Cli(small.copy_to(tmp_path, keep=HEAVY).store, tmp_path / "empty")
    failed = cli.run("build", "--target", TARGET, env={"UV_OFFLINE": "1", "UV_NO_CACHE": "1"})
    assert failed.returncode == 5
    assert "Traceback" not in failed.stderr
    assert "fix:" in failed.stderr


def test_damage_is_found_and_repaired(small: SmallImage, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(small.cli.store, store)
    cli = Cli(store)
    victims = [layer["digest"].removeprefix("sha256:") for layer in small.document["layers"]][3:5]
    flipped, missing = (store / "blobs" / "sha256" / name for name in victims)
    flip(flipped)
    missing.unlink()

    found = cli.run("verify", "--json")
    assert found.returncode == 6
    faults = json.loads(found.stdout)["faults"]
    assert len(faults) == 2
    assert any(flipped.name in fault and "its bytes have the digest" in fault for fault in faults)
    assert any(missing.name in fault and "missing" in fault for fault in faults)

    assert cli.run("gc", "--damaged").returncode == 0
    assert cli.build()["manifest_digest"] == small.document["manifest_digest"]
    assert cli.verified()


def test_inspect_and_list_agree_with_the_build(small: SmallImage) -> None:
    inspected = json.loads(small.cli.run("inspect", "--target", TARGET, "--json").stdout)
    assert inspected["manifest_digest"] == small.document["manifest_digest"]
    assert [layer["digest"] for layer in inspected["layers"]] == [
        layer["digest"] for layer in small.document["layers"]
    ]
    (row,) = json.loads(small.cli.run("list", "--json").stdout)["targets"]
    assert row["built"] == small.document["manifest_digest"]
    assert row["locked"] is True
