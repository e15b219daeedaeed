"""`verify` finds every fault."""

from __future__ import annotations

from images.oci.descriptor import digest_of
from images.oci.store.maintenance import verify
from images.oci.store.store import Store
from tests.damage import flip


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


def test_verify_tells_bytes_as_it_reads_them(full: Store) -> None:
    told: list[int] = []
    verify(full, told.append)
    assert sum(told) == full.blobs.size()
