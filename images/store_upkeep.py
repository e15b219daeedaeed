"""Upkeep of a store: every fault found, and what no image needs removed."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from images import sha256
from images.errors import IntegrityError, StoreError
from images.remote import Remote
from images.store_index import Index, name_of
from images.store_layers import Layers


@dataclass(frozen=True, slots=True)
class Swept:
    """What `gc` took away."""

    blobs: int
    keys: int
    bytes: int


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
        for kind, descriptor in self._references(item):
            path, digest = self.blob_path(descriptor["digest"]), descriptor["digest"]
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

        Raises:
            StoreError: a build is at work on this store.
        """
        with self._hold(fcntl.LOCK_EX), self._index_locked():
            needed = {digest.removeprefix("sha256:") for digest in self._needed()}
            blobs = [
                path
                for path in self._blobs.iterdir()
                if path.name not in needed or (damaged and sha256.of_file(path) != path.name)
            ]
            freed = sum(path.stat().st_size for path in blobs)
            for path in [*blobs, *self._locks.iterdir()]:
                path.unlink()
            self._remove_abandoned()
            keys = [path for path in self._keys.iterdir() if self.known(path.name) is None]
            for path in keys:
                path.unlink()
            self._drop_records()
            noted = {item.blob.digest: item for item in self._noted()}
            self._keep_remotes(
                {digest: item for digest, item in noted.items() if digest[7:] in needed}
            )
        return Swept(len(blobs), len(keys), freed)

    def _needed(self) -> Iterator[str]:
        """The digests that the index's images need.

        A damaged manifest does not say what its layers were: then all that were made are kept.
        """
        for item in self._index()["manifests"]:
            yield from (descriptor["digest"] for _, descriptor in self._references(item))
            try:
                self.read(item["digest"])
            except (IntegrityError, StoreError):
                keys = (self.known(path.name) for path in self._keys.iterdir())
                yield from (blob.digest for blob in keys if blob)
