"""Layer keys: known while their blobs are there, and never a traceback."""

from __future__ import annotations

import pytest

from images.oci.store.maintenance import gc
from images.oci.store.store import Store, open_store
from tests.unit.stores import add


def test_key_is_known_while_its_blob_is_there(store: Store) -> None:
    blob = add(store, b"layer")
    assert store.layer_keys.known("key") is None
    store.layer_keys.remember("key", blob)
    assert open_store(store.path).layer_keys.known("key") == blob
    store.blobs.path(blob.digest).write_bytes(b"laye")
    assert store.layer_keys.known("key") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"5", b"{}", b'{"digest": 1}', b"\xff\xfe",
     b'{"digest": 5, "diff_id": "", "size": 1, "unpacked": 1, "media_type": ""}',
     b'{"digest": "sha256:zz", "diff_id": "", "size": 1, "unpacked": 1, "media_type": ""}'],
)  # fmt: skip
def test_broken_key_is_an_unknown_key(store: Store, content: bytes) -> None:
    (store.path / ".roll/layers/key").write_bytes(content)
    assert store.layer_keys.known("key") is None
    assert gc(store).keys == 1


def test_records_are_removed_with_their_key(store: Store) -> None:
    blob = add(store, b"layer")
    store.layer_keys.remember("key", blob)
    store.layer_keys.keep_records("key", b"distributions")
    assert store.layer_keys.records("key") == b"distributions"
    assert store.layer_keys.records("other") is None
    assert store.layer_keys.remove_lost() == 0
    assert store.layer_keys.records("key") == b"distributions"
    store.blobs.path(blob.digest).unlink()
    assert store.layer_keys.remove_lost() == 1
    assert store.layer_keys.records("key") is None
