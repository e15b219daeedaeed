"""Blobs: whole under their digests, or not there at all."""

from __future__ import annotations

from contextlib import suppress

import pytest

from images.errors import IntegrityError, StoreError
from images.oci.descriptor import (
    digest_of,
)
from images.oci.store.store import Store
from tests.unit.stores import unfinished


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


def test_damaged_and_missing_blobs_are_reported(store: Store) -> None:
    store.blobs.path(store.blobs.put(b"small")).write_bytes(b"smale")
    with pytest.raises(IntegrityError, match="does not match its digest") as damaged:
        store.blobs.read(digest_of(b"small"))
    assert "verify" in (damaged.value.remedy or "")
    with pytest.raises(StoreError, match="cannot be read"):
        store.blobs.read(digest_of(b"none"))


@pytest.mark.parametrize(
    "name", ["", "sha256:", "sha256:../../etc/passwd", "sha512:" + "0" * 64, "sha256:" + "A" * 64]
)
def test_malformed_digest_names_no_file(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="not a sha256 digest"):
        store.blobs.path(name)


def test_document_above_the_limit_is_not_read(full: Store) -> None:
    path = full.blobs.path(f"sha256:{'1' * 64}")
    with path.open("wb") as out:
        out.truncate(1 << 40)
    with pytest.raises((StoreError, IntegrityError), match="larger than the limit"):
        full.blobs.read(f"sha256:{'1' * 64}")
    path.unlink()
