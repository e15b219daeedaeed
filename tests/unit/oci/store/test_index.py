"""Damaged indexes, manifests and configs: reported, never a traceback."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import Any

import pytest

from images.errors import IntegrityError, StoreError
from images.oci.descriptor import (
    digest_of,
)
from images.oci.store.maintenance import gc, verify
from images.oci.store.store import Store, open_store
from tests.damage import flip


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"nonsense", b'{"manifests": 5}', b"\xff",
                                     b'{"manifests": [5]}', b'{"manifests": [{}]}',
                                     b'{"manifests": [{"digest": "x", "size": 1}]}'])  # fmt: skip
def test_verify_lists_a_broken_index_beside_damaged_blobs(full: Store, content: bytes) -> None:
    flip(full.blobs.path(digest_of(b"base")))
    (full.path / "index.json").write_bytes(content)
    faults = verify(full)
    assert len(faults) == 2
    assert "index.json: not an OCI image index" in faults[1]
    for use in (full.images, lambda: gc(full), lambda: full.load("first")):
        with pytest.raises(StoreError, match="not an OCI image index"):
            use()


def test_verify_lists_a_missing_index(full: Store) -> None:
    (full.path / "index.json").unlink()
    assert len(verify(full)) == 1


@pytest.mark.parametrize("document", ["manifest", "config"])
def test_no_flipped_bit_of_a_document_escapes_verify_or_breaks_it(
    full: Store, document: str
) -> None:
    value = full.load("first")
    path = full.blobs.path(value.manifest_digest if document == "manifest" else value.config_digest)
    content = path.read_bytes()
    rng = random.Random(3)
    for position in range(len(content)):
        path.write_bytes(
            content[:position]
            + bytes([content[position] ^ 1 << rng.randrange(8)])
            + content[position + 1 :]
        )
        assert any(path.name in fault for fault in verify(full))
        with pytest.raises((IntegrityError, StoreError)):
            full.load("first")


def test_no_flipped_bit_of_the_index_breaks_verify(full: Store) -> None:
    index = full.path / "index.json"
    content = index.read_bytes()
    for position in range(len(content)):
        index.write_bytes(
            content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :]
        )
        verify(full)
        with suppress(StoreError):
            full.images()


@pytest.mark.parametrize(
    "manifest",
    [[], 5, None, {}, {"config": None}, {"config": {}}, {"config": {"digest": 5, "size": 1}},
     {"layers": None}, {"layers": [5]}, {"layers": [{"digest": "sha256:x", "size": 1}]},
     {"manifests": [{}]}],
)  # fmt: skip
def test_foreign_documents_under_a_true_digest_break_nothing(store: Store, manifest: Any) -> None:
    content = json.dumps(manifest).encode()
    store.blobs.put(content)
    entry = {
        "digest": digest_of(content),
        "size": len(content),
        "annotations": {"org.opencontainers.image.ref.name": "foreign"},
    }
    (store.path / "index.json").write_text(json.dumps({"manifests": [entry]}))
    verify(store)
    gc(store)
    assert store.blobs.read(digest_of(content)) == content
    with pytest.raises((IntegrityError, StoreError)):
        store.load("foreign")


def test_damaged_index_is_reported_with_a_fix_that_works(full: Store) -> None:
    first = full.load("first")
    path = full.path / "index.json"
    path.write_bytes(path.read_bytes()[:-40])
    for use in (full.images, lambda: gc(full), lambda: full.save(first)):
        with pytest.raises(StoreError, match=r"not an OCI image index: .*line \d+") as error:
            use()
    assert (error.value.remedy or "").startswith(f"mv {path} {path}.damaged")
    path.rename(f"{path}.damaged")
    with pytest.raises(StoreError):
        gc(open_store(full.path, create=False))  # nothing is removed for want of an index
    again = open_store(full.path)
    again.save(first)
    assert again.images() == {"first": first.manifest_digest}
    assert verify(again) == []


def test_index_without_end_is_refused(full: Store) -> None:
    (full.path / "index.json").unlink()
    (full.path / "index.json").symlink_to("/dev/zero")
    with pytest.raises(StoreError, match="not a regular file"):
        full.images()
