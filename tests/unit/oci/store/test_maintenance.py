"""`verify` finds every fault; `gc` removes what no image needs, and nothing that one may need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from images.errors import StoreError
from images.oci.descriptor import (
    digest_of,
)
from images.oci.store.maintenance import Removed, gc, verify
from images.oci.store.store import Store, open_store
from tests.damage import flip
from tests.unit.stores import (
    HOLD_A_FILE,
    add,
    image_of,
    process,
    unfinished,
    wait_for_line,
)


def test_verify_finds_every_fault_at_once(full: Store) -> None:
    first, second = full.load("first"), full.load("second")
    flip(full.blobs.path(digest_of(b"base")))
    full.blobs.path(digest_of(b"one")).unlink()
    full.blobs.path(digest_of(b"two")).write_bytes(b"t")
    flip(full.blobs.path(first.config_digest))
    full.blobs.path(second.config_digest).unlink()
    faults = "\n".join(verify(full))
    for fault in (
        f"blob {digest_of(b'base')}: its bytes have the digest",
        f"first: layer {digest_of(b'one')}: missing",
        f"blob {digest_of(b'two')}: its bytes have the digest",
        f"second: layer {digest_of(b'two')}: 1 bytes instead of 3",
        f"blob {first.config_digest}: its bytes have the digest",
        f"second: config {second.config_digest}: missing",
    ):
        assert fault in faults
    assert len(verify(full)) == 6


def test_verify_reports_bytes_as_it_reads_them(full: Store) -> None:
    read: list[int] = []
    verify(full, read.append)
    assert sum(read) == full.blobs.size()


def test_gc_keeps_what_an_image_needs_and_removes_the_rest(store: Store) -> None:
    used, unused = add(store, b"used"), add(store, b"unused")
    store.layer_keys.remember("used", used)
    store.layer_keys.remember("unused", unused)
    store.save(image_of("one", used))
    assert gc(store) == Removed(blobs=1, keys=1, bytes=6)
    assert verify(store) == []
    assert store.layer_keys.known("used") == used
    assert store.layer_keys.known("unused") is None
    assert store.load("one").layers[0].blob.digest == used.digest
    assert gc(store) == Removed(0, 0, 0)


def test_gc_removes_the_layers_of_a_name_that_was_built_anew(store: Store) -> None:
    old, new = add(store, b"old"), add(store, b"new")
    store.save(image_of("one", old))
    store.save(image_of("one", new))
    assert gc(store).blobs == 3  # the old layer, config and manifest
    assert not store.blobs.has(old.digest, old.size)
    assert verify(store) == []


def test_gc_refuses_while_a_build_is_at_work_and_removes_nothing(store: Store) -> None:
    add(store, b"not named yet")
    child = process(HOLD_A_FILE, store.path)
    wait_for_line(child)
    with pytest.raises(StoreError, match="a build or a push is at work"):
        gc(store)
    assert store.blobs.has(digest_of(b"not named yet"), 13)
    child.communicate("go on\n")
    assert gc(store).blobs == 2


def test_build_refuses_while_gc_is_at_work(store: Store) -> None:
    import fcntl

    with (store.path / ".roll/in-use").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="gc is at work"), store.building():
            pass


def test_builds_do_not_keep_each_other_away(store: Store) -> None:
    with store.building(), open_store(store.path).building():
        pass


def test_gc_of_damaged_blobs_makes_room_for_good_ones(store: Store) -> None:
    good, bad = add(store, b"good"), add(store, b"bad")
    for name, blob in (("good", good), ("bad", bad)):
        store.layer_keys.remember(name, blob)
    store.save(image_of("one", good, bad))
    store.blobs.path(bad.digest).write_bytes(b"bat")
    assert gc(store) == Removed(0, 0, 0)
    assert gc(store, damaged=True) == Removed(blobs=1, keys=1, bytes=3)
    assert store.layer_keys.known("bad") is None
    assert store.layer_keys.known("good") == good
    add(store, b"bad")
    assert verify(store) == []


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_gc_with_a_lost_manifest_keeps_all_that_it_may_have_named(
    store: Store, harm: str, damaged: bool
) -> None:
    layer, loose = add(store, b"hours of work"), add(store, b"loose")
    store.layer_keys.remember("key", layer)
    value = image_of("one", layer)
    store.save(value)
    manifest = store.blobs.path(value.manifest_digest)
    if harm == "flip":
        manifest.write_bytes(manifest.read_bytes().replace(b"layers", b"loyers"))
    else:
        manifest.unlink()
    removed = gc(store, damaged=damaged)
    assert removed.unread == (value.manifest_digest,)
    assert removed.blobs == (damaged and harm == "flip")
    assert store.layer_keys.known("key") == layer
    assert store.blobs.has(loose.digest, loose.size)
    if damaged or harm == "remove":
        store.save(value)
        assert verify(store) == []
        assert gc(store).blobs == 1
        assert not store.blobs.has(loose.digest, loose.size)


def test_gc_removes_unfinished_files_and_locks(store: Store) -> None:
    (store.path / ".roll/tmp/dead").touch()
    with store.layer_keys.making("key"):
        pass
    gc(store)
    assert unfinished(store) == []
    assert not list((store.path / ".roll/locks").iterdir())


def test_pipes_in_a_store_block_nothing(full: Store, tmp_path: Path) -> None:
    blob = add(full, b"layer")
    full.layer_keys.remember("key", blob)
    places = ("blobs/sha256/" + "0" * 64, ".roll/layers/pipe", ".roll/tmp/pipe")
    for place in places:
        os.mkfifo(full.path / place)
    (tmp_path / "outside").mkdir()
    (full.path / ".roll/tmp/link").symlink_to(tmp_path / "outside")
    (full.path / "blobs/sha256/directory").mkdir()
    assert sum("not a regular file" in fault for fault in verify(full)) == 2
    with full.building():
        pass
    assert unfinished(full) == []
    assert full.layer_keys.known("pipe") is None
    gc(full, damaged=True)
    assert full.layer_keys.known("key") is None or full.blobs.has(blob.digest, blob.size)
    assert (tmp_path / "outside").is_dir()
    assert full.load("first")
