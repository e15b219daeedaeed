"""The index of a store: the manifests that it names, and what they need.

Specification: OCI image layout 1.0, https://github.com/opencontainers/image-spec (image-layout.md,
"index.json file"). The index is replaced under a lock; what other programs put into it is kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from images.errors import IntegrityError, StoreError
from images.oci import referrer
from images.oci.descriptor import INDEX_TYPE, REF_NAME
from images.oci.store import reachability
from images.oci.store.blobs import NOT_A_DOCUMENT, Blobs
from images.oci.store.files import INDEX_LOCK, Files
from images.util import limits, untrusted_files, untrusted_json

_EMPTY: dict[str, Any] = {"manifests": [], "mediaType": INDEX_TYPE, "schemaVersion": 2}


class Index:
    """The images and documents that `index.json` names.

    Args:
        files: of the store.
        blobs: of the store.
    """

    def __init__(self, files: Files, blobs: Blobs) -> None:
        self._files = files
        self._blobs = blobs
        self._path = files.path / "index.json"

    def images(self) -> dict[str, str]:
        """Return manifest digests by name."""
        return {
            name: item["digest"]
            for item in self.entries()
            if (name := name_of(item)) is not None and reachability.is_sha256(item["digest"])
        }

    def notes(self) -> list[str]:
        """Return a line for each entry that this builder does not understand; `gc` keeps them."""
        found = []
        for item in self.entries():
            for kind, descriptor in reachability.references(self._blobs, item):
                if kind == "manifest" and (why := _not_understood(descriptor)):
                    found.append(f"{name_of(item) or 'unnamed'}: {descriptor['digest']}: {why}")
        return found

    def entries(self) -> list[dict[str, Any]]:
        """Return the descriptors of the index.

        Raises:
            StoreError: it is missing or damaged.
        """
        found: list[dict[str, Any]] = self._read()["manifests"]
        return found

    def _read(self) -> dict[str, Any]:
        path = self._path
        try:
            index: dict[str, Any] = untrusted_json.loads(untrusted_files.whole(path, limits.LIST))
            for item in index["manifests"]:
                reachability.checked(item)
                name_of(item)
        except (OSError, *NOT_A_DOCUMENT) as error:
            raise StoreError(
                f"{path}: not an OCI image index: {_reason(error)}",
                remedy=f"mv {path} {path}.damaged  # then build the targets again, before any gc: "
                "their layers are kept, and only names are made anew",
            ) from error
        return index

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for the lock under which the index is replaced, and hold it."""
        with self._files.locked(INDEX_LOCK):
            yield

    def begin(self) -> None:
        """Write an empty index if there is none: in a new store, or after a damaged one moved."""
        if not self._path.exists():
            with self.locked():
                if not self._path.exists():
                    self._files.replace(self._path, json.dumps(_EMPTY, indent=1).encode())

    def tag(self, descriptor: dict[str, Any]) -> None:
        """Write an image's entry instead of those that have its name now."""
        with self.locked():
            index, name = self._read(), name_of(descriptor)
            before = [item for item in index["manifests"] if name_of(item) == name]
            if before != [descriptor]:
                others = [item for item in index["manifests"] if name_of(item) != name]
                self._write(index, [*others, descriptor])

    def add(self, descriptors: Iterable[dict[str, Any]]) -> None:
        """Write entries without a name, instead of those that have their digests now."""
        new = {item["digest"]: item for item in descriptors}
        with self.locked():
            index = self._read()
            others = [item for item in index["manifests"] if item["digest"] not in new]
            self._write(index, [*others, *new.values()])

    def remove_lost(self) -> list[dict[str, Any]]:
        """Remove our documents about images that are gone; returns the entries that remain.

        The lock must be held.
        """
        index = self._read()
        kept = self._without_lost(index["manifests"])
        if len(kept) < len(index["manifests"]):
            self._write(index, kept)
        return kept

    def _write(self, index: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        kept = self._without_lost(entries)
        index["manifests"] = sorted(kept, key=lambda item: name_of(item) or "")
        self._files.replace(self._path, json.dumps(index, indent=1).encode())

    def _without_lost(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the entries but for our documents about images that are not among them."""
        ours = [item for item in entries if item.get("artifactType") in referrer.TYPES]
        if not ours:
            return entries
        here = {
            descriptor["digest"]
            for item in entries
            for kind, descriptor in reachability.references(self._blobs, item)
            if kind == "manifest"
        }
        lost = [item for item in ours if self._is_lost(item, here)]
        return [item for item in entries if item not in lost]

    def _is_lost(self, item: dict[str, Any], here: Collection[str]) -> bool:
        """Return whether a document is about an image that is gone, or is damaged or missing."""
        try:
            manifest = self._blobs.read(item["digest"])
            (content,) = referrer.content_of(manifest)
            found = referrer.parse(manifest, self._blobs.read(content))
            return found.subject["digest"] not in here
        except (IntegrityError, StoreError):
            return True
        except NOT_A_DOCUMENT:
            return False  # another program's


def _not_understood(descriptor: dict[str, Any]) -> str:
    if not reachability.is_sha256(descriptor["digest"]):
        return "a digest of another algorithm than sha256; its blobs are not checked"
    kind = descriptor.get("mediaType")
    return (
        "" if kind in reachability.UNDERSTOOD else f"{kind}: not understood; kept with all it names"
    )


def _reason(error: BaseException) -> str:
    """Return the cause for people: a key alone would be no sentence."""
    if isinstance(error, KeyError):
        return f"an entry without {error}"
    return str(error)


def name_of(item: dict[str, Any]) -> str | None:
    """Return the name that an entry gives an image; documents about one have none."""
    name = (item.get("annotations") or {}).get(REF_NAME)
    return name if isinstance(name, str) else None
