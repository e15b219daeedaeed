"""The index of a store: the manifests that it names, and what they need.

Specification: OCI image layout 1.0, https://github.com/opencontainers/image-spec (image-layout.md,
"index.json file"). The index is replaced under a lock; what others put into it is kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from images.errors import IntegrityError, StoreError
from images.oci import referrer
from images.oci.descriptor import INDEX_TYPE, REF_NAME
from images.oci.store import reachability
from images.oci.store.blobs import NOT_A_DOCUMENT, Blobs
from images.util import limits, untrusted_files, untrusted_json

EMPTY: dict[str, Any] = {"manifests": [], "mediaType": INDEX_TYPE, "schemaVersion": 2}


class Index(Blobs):
    """A store as the images and documents that its index names."""

    def images(self) -> dict[str, str]:
        """Manifest digests by name."""
        return {
            name: item["digest"]
            for item in self._index()["manifests"]
            if (name := name_of(item)) is not None and reachability.is_sha256(item["digest"])
        }

    def notes(self) -> list[str]:
        """What the index names and this builder does not understand, a line each; `gc` keeps it."""
        found = []
        for item in self._index()["manifests"]:
            for kind, descriptor in reachability.references(self, item):
                if kind == "manifest" and (why := _not_understood(descriptor)):
                    found.append(f"{name_of(item) or 'unnamed'}: {descriptor['digest']}: {why}")
        return found

    def _index(self) -> dict[str, Any]:
        path = self.path / "index.json"
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

    def _replace_index(self, index: dict[str, Any], manifests: list[dict[str, Any]]) -> None:
        kept = self._without_lost(manifests)
        index["manifests"] = sorted(kept, key=lambda item: name_of(item) or "")
        self._replace(self.path / "index.json", json.dumps(index, indent=1).encode())

    def _without_lost(self, manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The entries of an index but for documents of ours about images that are not in it."""
        ours = [item for item in manifests if item.get("artifactType") in referrer.TYPES]
        if not ours:
            return manifests
        here = {
            descriptor["digest"]
            for item in manifests
            for kind, descriptor in reachability.references(self, item)
            if kind == "manifest"
        }
        lost = [item for item in ours if self._is_lost(item, here)]
        return [item for item in manifests if item not in lost]

    def _is_lost(self, item: dict[str, Any], here: Collection[str]) -> bool:
        """Whether a document is about an image that is gone, or itself damaged or missing."""
        try:
            manifest = self.read(item["digest"])
            (content,) = referrer.content_of(manifest)
            return referrer.parse(manifest, self.read(content)).subject["digest"] not in here
        except (IntegrityError, StoreError):
            return True
        except NOT_A_DOCUMENT:
            return False  # somebody else's


def _not_understood(descriptor: dict[str, Any]) -> str:
    if not reachability.is_sha256(descriptor["digest"]):
        return "a digest of another algorithm than sha256; its blobs are not looked at"
    kind = descriptor.get("mediaType")
    return (
        "" if kind in reachability.UNDERSTOOD else f"{kind}: not understood; kept with all it names"
    )


def _reason(error: BaseException) -> str:
    """The cause as people read it: a key alone would be no sentence."""
    if isinstance(error, KeyError):
        return f"an entry without {error}"
    return str(error)


def name_of(item: dict[str, Any]) -> str | None:
    """The name that an entry of the index gives an image; documents about one have none."""
    name = (item.get("annotations") or {}).get(REF_NAME)
    return name if isinstance(name, str) else None
