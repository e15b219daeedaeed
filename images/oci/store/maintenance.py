"""Upkeep of a store: every fault found, and what no image needs removed."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.errors import StoreError
from images.oci.store import reachability
from images.oci.store.index import Index, name_of
from images.oci.store.layer_keys import Layers
from images.oci.store.remote_layers import Remote
from images.util import sha256


@dataclass(frozen=True, slots=True)
class Swept:
    """What `gc` took away.

    Attributes:
        blobs, keys: how many.
        bytes: of the blobs.
        unread: digests of what the index names and cannot be read, for which all was kept.
    """

    blobs: int
    keys: int
    bytes: int
    unread: tuple[str, ...] = ()


class Upkeep(Layers, Index):
    """A store that can be verified and swept."""

    def verify(self, progress: Callable[[int], None] = lambda _: None) -> list[str]:
        """Hash every blob again and follow every reference; gives all faults.

        A layer that is known to lie in a registry is not missing; whether it does is not asked.

        Args:
            progress: told of bytes as they are read.
        """
        faults = []
        for blob in sorted(self._blobs.iterdir()):
            try:
                found = sha256.of_file(blob, progress)
            except OSError as error:
                faults.append(f"blob sha256:{blob.name}: cannot be read: {error}")
                continue
            if found != blob.name:
                faults.append(f"blob sha256:{blob.name}: its bytes have the digest sha256:{found}")
        elsewhere = self.remotes()
        try:
            for item in self._index()["manifests"]:
                broken = self._broken(item, elsewhere)
                faults += [f"{name_of(item) or 'unnamed'}: {fault}" for fault in broken]
        except StoreError as error:
            faults.append(error.message)
        return faults

    def _broken(self, item: dict[str, Any], elsewhere: dict[str, Remote]) -> Iterator[str]:
        for kind, descriptor in reachability.references(self, item):
            digest = descriptor["digest"]
            if not reachability.is_sha256(digest):
                continue  # see `notes`
            path = self.blob_path(digest)
            if digest in elsewhere and not path.exists():
                continue
            if not path.exists():
                yield f"{kind} {digest}: missing"
            elif (size := path.stat().st_size) != descriptor["size"]:
                yield f"{kind} {digest}: {size} bytes instead of {descriptor['size']}"

    def gc(self, *, damaged: bool = False) -> Swept:
        """Remove what no image in the index needs.

        Args:
            damaged: remove blobs whose bytes do not have their digest as well; the next build of
                the images that need them makes them anew.

        Where a document that the index names cannot be read, nobody knows what it needs: then only
        damaged blobs go, if that was asked for.

        Raises:
            StoreError: a build is at work on this store.
        """
        with self._hold(fcntl.LOCK_EX), self._index_locked():
            index = self._index()
            items = self._without_lost(index["manifests"])
            if len(items) < len(index["manifests"]):
                self._replace_index(index, items)
            reached = reachability.reached(self, items)
            needed = {digest.removeprefix("sha256:") for digest in reached.digests}
            blobs = [
                path
                for path in self._blobs.iterdir()
                if not path.is_dir()  # nothing of a layout, and nobody's to remove
                and (
                    (path.name not in needed and not reached.unread)
                    or (damaged and _is_damaged(path))
                )
            ]
            freed = sum(path.lstat().st_size for path in blobs)
            for path in [*blobs, *self._locks.iterdir()]:
                path.unlink()
            self._remove_abandoned()
            keys = [path for path in self._keys.iterdir() if self.known(path.name) is None]
            for path in keys:
                path.unlink()
            self._drop_records()
            if not reached.unread:
                noted = {item.blob.digest: item for item in self._noted()}
                self._keep_remotes(
                    {digest: item for digest, item in noted.items() if digest[7:] in needed}
                )
        return Swept(len(blobs), len(keys), freed, reached.unread)


def _is_damaged(path: Path) -> bool:
    try:
        return sha256.of_file(path) != path.name
    except OSError:  # no regular file, or the disk cannot read it
        return True
