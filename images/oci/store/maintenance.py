"""Maintenance of a store: `verify` finds every fault, `gc` removes what no image needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.errors import StoreError
from images.oci.store import reachability
from images.oci.store.index import name_of
from images.oci.store.store import Store
from images.util import sha256


@dataclass(frozen=True, slots=True)
class Removed:
    """Result of `gc`.

    Attributes:
        blobs: how many were removed.
        keys: how many layer keys.
        bytes: of the blobs.
        unread: digests of what the index names and cannot be read, for which all was kept.
    """

    blobs: int
    keys: int
    bytes: int
    unread: tuple[str, ...] = ()


def verify(store: Store, progress: Callable[[int], None] = lambda _: None) -> list[str]:
    """Hash every blob again and follow every reference; returns all faults.

    A layer that is recorded as a registry's is not missing; the registry is not asked.

    Args:
        store: what is verified.
        progress: called with bytes as they are read.
    """
    faults = list(_damaged(store, progress))
    elsewhere = store.remote_layers.missing_here()
    try:
        for item in store.index.entries():
            broken = _broken(store, item, elsewhere)
            faults += [f"{name_of(item) or 'unnamed'}: {fault}" for fault in broken]
    except StoreError as error:
        faults.append(error.message)
    return faults


def _damaged(store: Store, progress: Callable[[int], None]) -> Iterator[str]:
    for blob in sorted(store.blobs.paths()):
        try:
            found = sha256.of_file(blob, progress)
        except OSError as error:
            yield f"blob sha256:{blob.name}: cannot be read: {error}"
            continue
        if found != blob.name:
            yield f"blob sha256:{blob.name}: its bytes have the digest sha256:{found}"


def _broken(store: Store, item: dict[str, Any], elsewhere: Collection[str]) -> Iterator[str]:
    for kind, descriptor in reachability.references(store.blobs, item):
        digest = descriptor["digest"]
        if not reachability.is_sha256(digest):
            continue  # see `Index.notes`
        path = store.blobs.path(digest)
        if digest in elsewhere and not path.exists():
            continue
        if not path.exists():
            yield f"{kind} {digest}: missing"
        elif (size := path.stat().st_size) != descriptor["size"]:
            yield f"{kind} {digest}: {size} bytes instead of {descriptor['size']}"


def gc(store: Store, *, damaged: bool = False) -> Removed:
    """Remove what no image in the index needs.

    Where a document that the index names cannot be read, what it needs is unknown: then only
    damaged blobs are removed, if that was asked for.

    Args:
        store: from which it is removed.
        damaged: remove blobs whose bytes do not have their digest as well; the next build of the
            images that need them makes them anew.

    Raises:
        StoreError: a build is at work on this store.
    """
    with store.files.collecting(), store.index.locked():
        reached = reachability.reached(store.blobs, store.index.remove_lost())
        needed = None if reached.unread else reached.digests
        blobs = [path for path in store.blobs.paths() if _is_to_remove(path, needed, damaged)]
        freed = sum(path.lstat().st_size for path in blobs)
        for path in blobs:
            path.unlink()
        store.layer_keys.remove_locks()
        store.files.remove_abandoned()
        keys = store.layer_keys.remove_lost()
        if needed is not None:
            store.remote_layers.keep(needed)
    return Removed(len(blobs), keys, freed, reached.unread)


def _is_to_remove(path: Path, needed: Collection[str] | None, damaged: bool) -> bool:
    if path.is_dir():  # no part of a layout, so not ours to remove
        return False
    unneeded = needed is not None and f"sha256:{path.name}" not in needed
    return unneeded or (damaged and _is_damaged(path))


def _is_damaged(path: Path) -> bool:
    try:
        return sha256.of_file(path) != path.name
    except OSError:  # not a regular file, or the disk cannot read it
        return True
