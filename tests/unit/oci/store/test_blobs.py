"""Blobs and layer keys: there whole, under their names, or not at all."""

from __future__ import annotations

from contextlib import suppress

import pytest

from images.errors import IntegrityError, StoreError
from images.oci.descriptor import digest_of
from images.oci.store.maintenance import gc
from images.oci.store.store import Store, open_store
from tests.unit.oci.store.conftest import add, unfinished


def test_blob_is_there_under_its_digest_with_its_size(store: Store) -> None:
    assert store.blobs.put(b"small") == digest_of(b"small")
    assert store.blobs.read(digest_of(b"small")) == b"small"
    assert store.blobs.has(digest_of(b"small"), 5)
    assert not store.blobs.has(digest_of(b"small"), 4)
    assert not store.blobs.has(digest_of(b"other"), 5)
    assert store.blobs.path(digest_of(b"small")).stat().st_mode & 0o777 == 0o644


def test_file_without_a_name_leaves_nothing(store: Store) -> None:
    with store.blobs.new_file() as (out, _):
        out.write(b"never finished")
    with suppress(KeyError), store.blobs.new_file() as (out, _):
        out.write(b"failed")
        raise KeyError
    assert unfinished(store) == []
    assert store.blobs.size() == 0


def test_blob_is_not_visible_before_it_is_whole(store: Store) -> None:
    with store.blobs.new_file() as (out, commit):
        out.write(b"half")
        out.flush()
        assert store.blobs.size() == 0
        commit(digest_of(b"half"))
        assert store.blobs.has(digest_of(b"half"), 4)
    assert store.blobs.has(digest_of(b"half"), 4)


def test_read_tells_of_a_damaged_and_of_a_missing_blob(store: Store) -> None:
    store.blobs.path(store.blobs.put(b"small")).write_bytes(b"smale")
    with pytest.raises(IntegrityError, match="does not match its digest") as damaged:
        store.blobs.read(digest_of(b"small"))
    assert "verify" in (damaged.value.remedy or "")
    with pytest.raises(StoreError, match="cannot be read"):
        store.blobs.read(digest_of(b"none"))


@pytest.mark.parametrize(
    "name", ["", "sha256:", "sha256:../../etc/passwd", "sha512:" + "0" * 64, "sha256:" + "A" * 64]
)
def test_what_is_not_a_digest_names_no_file(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="not a sha256 digest"):
        store.blobs.path(name)


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
