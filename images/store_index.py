"""The index of a store: the manifests that it names, and what they need.

Specification: OCI image layout 1.0, https://github.com/opencontainers/image-spec (image-layout.md,
"index.json file"). The index is replaced under a lock; what others put into it is kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

from images import jsontext, referrer
from images.errors import IntegrityError, StoreError
from images.image import INDEX_TYPE
from images.store_blobs import NOT_A_DOCUMENT, Blobs

REF = "org.opencontainers.image.ref.name"
EMPTY: dict[str, Any] = {"manifests": [], "mediaType": INDEX_TYPE, "schemaVersion": 2}


class Index(Blobs):
    """A store as the images and documents that its index names."""

    def images(self) -> dict[str, str]:
        """Manifest digests by name."""
        return {
            name: item["digest"]
            for item in self._index()["manifests"]
            if (name := name_of(item)) is not None
        }

    def _index(self) -> dict[str, Any]:
        path = self.path / "index.json"
        try:
            index: dict[str, Any] = jsontext.loads(path.read_bytes())
            for item in index["manifests"]:
                self._descriptor(item)
                name_of(item)
        except (OSError, *NOT_A_DOCUMENT) as error:
            raise StoreError(f"{path}: not an OCI image index: {error}") from error
        return index

    def _replace_index(self, index: dict[str, Any], manifests: list[dict[str, Any]]) -> None:
        here = {item["digest"] for item in manifests}
        kept = [item for item in manifests if not self._is_lost(item, here)]
        index["manifests"] = sorted(kept, key=lambda item: name_of(item) or "")
        self._replace(self.path / "index.json", json.dumps(index, indent=1).encode())

    def _is_lost(self, item: dict[str, Any], here: Collection[str]) -> bool:
        """Whether it is a document about an image that is gone, or itself damaged or missing."""
        if "artifactType" not in item:
            return False
        try:
            manifest = self.read(item["digest"])
            if (subject := referrer.subject_of(manifest)) is None:
                return False
            for digest in referrer.content_of(manifest):
                self.read(digest)
            return subject not in here
        except (IntegrityError, StoreError):
            return True
        except NOT_A_DOCUMENT:
            return False  # somebody else's

    def _references(self, item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "manifest", item
        with suppress(OSError, *NOT_A_DOCUMENT):
            manifest = jsontext.loads(self.blob_path(item["digest"]).read_bytes())
            if "config" in manifest:
                yield "config", self._descriptor(manifest["config"])
            for kind in ("layers", "manifests"):
                for inner in manifest.get(kind, []):
                    yield kind.removesuffix("s"), self._descriptor(inner)

    def _descriptor(self, value: dict[str, Any]) -> dict[str, Any]:
        """A descriptor that has a digest and a size, whatever wrote it.

        Raises:
            One of `NOT_A_DOCUMENT`.
        """
        self.blob_path(value["digest"])
        if not isinstance(value["size"], int):
            raise TypeError(f"{value['size']!r} is not a size")
        return value


def name_of(item: dict[str, Any]) -> str | None:
    """The name that an entry of the index gives an image; documents about one have none."""
    name = (item.get("annotations") or {}).get(REF)
    return name if isinstance(name, str) else None
