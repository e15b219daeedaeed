"""What `gc` removes, what it keeps, and when it must not."""

from __future__ import annotations

import pytest

from images.errors import StoreError
from images.oci.descriptor import digest_of
from images.oci.store.maintenance import Removed, gc, verify
from images.oci.store.store import Store, open_store
from tests.unit.oci.store.conftest import (
    HOLD_A_FILE,
    add,
    image_of,
    process,
    unfinished,
    wait_for_line,
)


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


def test_gc_refuses_while_a_build_is_at_work_and_takes_nothing(store: Store) -> None:
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
    swept = gc(store, damaged=damaged)
    assert swept.unread == (value.manifest_digest,)
    assert swept.blobs == (damaged and harm == "flip")
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
