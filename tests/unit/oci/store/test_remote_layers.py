"""Layers that are in a registry instead of the store."""

from __future__ import annotations

import pytest

from images.oci.reference import Repository
from images.oci.store.maintenance import gc, verify
from images.oci.store.remote_layers import Location, RemoteLayer
from images.oci.store.store import Store, open_store
from tests.unit.stores import add, blob_of

PLACE = Location(Repository("localhost:5000", "roll/cache"), plain_http=True)


def moved(store: Store, content: bytes) -> RemoteLayer:
    """The layer with this content, as if it were in a registry."""
    remote = RemoteLayer("a" * 64, blob_of(content), PLACE)
    store.blobs.path(remote.blob.digest).unlink()
    store.remote_layers.record([remote])
    return remote


def test_layer_in_a_registry_is_known_and_not_missing(full: Store) -> None:
    remote = moved(full, b"one")
    assert full.remote_layers.missing_here() == {remote.blob.digest: remote}
    assert open_store(full.path).remote_layers.missing_here() == full.remote_layers.missing_here()
    assert verify(full) == []
    assert full.layer_keys.known(remote.key) is None
    assert full.load("first").layers[1].blob.unpacked == 3


def test_layer_that_the_store_has_got_is_not_missing(full: Store) -> None:
    moved(full, b"one")
    add(full, b"one")
    assert full.remote_layers.missing_here() == {}


def test_layers_recorded_later_do_not_replace_earlier_ones(full: Store) -> None:
    first = moved(full, b"one")
    second = RemoteLayer("b" * 64, blob_of(b"two"), PLACE)
    full.blobs.path(second.blob.digest).unlink()
    full.remote_layers.record([second])
    assert set(full.remote_layers.missing_here()) == {first.blob.digest, second.blob.digest}


def test_gc_forgets_remote_layers_that_no_image_needs(full: Store) -> None:
    needed = moved(full, b"one")
    full.remote_layers.record([RemoteLayer("b" * 64, blob_of(b"of no image"), PLACE)])
    gc(full)
    assert set(full.remote_layers.missing_here()) == {needed.blob.digest}
    assert verify(full) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"layers": [{}]}', b"5",
                                     b'{"layers": [{"key": "a", "place": 5}]}'])  # fmt: skip
def test_damaged_record_of_remote_layers_makes_them_missing(full: Store, content: bytes) -> None:
    remote = moved(full, b"one")
    (full.path / ".roll" / "remotes.json").write_bytes(content)
    assert full.remote_layers.missing_here() == {}
    assert verify(full) == [f"first: layer {remote.blob.digest}: missing"]
    full.remote_layers.record([remote])
    assert verify(full) == []
