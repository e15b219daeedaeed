"""A registry as the cache that builders share: layers found in it by their keys.

Specification: OCI Image Format 1.1, "Guidelines for Artifact Usage"; OCI Distribution Spec 1.1.

Each layer has an artifact manifest of its own, tagged with its key. The layer's blob is what the
manifest refers to, so the registry's garbage collection keeps it as it keeps an image's; the record
(key, diff id, unpacked size) is in the annotations, so one request reads it. It is one manifest
per layer, not an index per target: builders that write at the same time cannot lose each other's
records, and every target finds the layers that another one has put there. The price is two small
requests per layer instead of one for all: some tenths of a second (`benchmarks/shared_cache.py`).
Any registry will do: the referrers API of 1.1 is not needed.

Whoever may write to the repository decides what goes into the images of those who build from it:
a key says what a layer was made from, and only making it would verify that. What is checked:
that a record is of the key that was asked for, that the blob is there, and, once it is fetched,
that it has its digest and its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from images import format_numbers
from images.errors import IntegrityError
from images.oci.descriptor import (
    DIGEST,
    LAYER_TYPES,
    MANIFEST_TYPE,
    Blob,
    canonical_json,
    descriptor_of,
)
from images.oci.referrer import EMPTY, EMPTY_TYPE
from images.oci.registry import download, manifests
from images.oci.registry.client import Registry
from images.oci.registry.concurrency import REQUESTS
from images.util import untrusted_json
from images.util.parallel import map_all

_ARTIFACT_TYPE = "application/vnd.roll.layer.v1+json"
NOT_A_RECORD = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Exceptions raised by parsing a manifest that is not a record."""


@dataclass(frozen=True, slots=True)
class Found:
    """The records of some keys in the cache.

    Attributes:
        blobs: by key; all of them are in the repository.
        faults: a line for each record that is unusable.
    """

    blobs: Mapping[str, Blob]
    faults: Sequence[str]


def tag(key: str) -> str:
    """Return the tag of a layer's record: valid, as a key is a SHA-256 in hexadecimal."""
    return f"layer-{format_numbers.CACHE_RECORD}-{key}"


def find(registry: Registry, keys: Sequence[str]) -> Found:
    """Look the keys up, many at a time.

    Args:
        registry: the cache's repository.
        keys: digests of layers' inputs.

    Raises:
        RegistryError: it cannot be reached, or requires another login.
    """
    results = map_all(lambda key: _find(registry, key), keys, REQUESTS, registry.transport.close)
    pairs = list(zip(keys, results, strict=True))
    blobs = {key: found for key, found in pairs if isinstance(found, Blob)}
    faults = [
        f"{registry.repository}:{tag(key)[:20]}…: {found}; ignored"
        for key, found in pairs
        if isinstance(found, str)
    ]
    return Found(blobs, faults)


def _find(registry: Registry, key: str) -> Blob | str | None:
    """Return the blob, None where there is no record, or what is wrong with it."""
    try:
        found = download.find_manifest(registry, tag(key))
        if found is None:
            return None
        blob = parse(found.content, key)
    except IntegrityError as error:
        return error.message
    except NOT_A_RECORD as error:
        return f"not a record of a layer: {' '.join(str(error).split())[:80]}"
    if not registry.has_blob(blob.digest, blob.size):
        return f"its blob {blob.digest[:19]} is gone"
    return blob


def add(registry: Registry, key: str, title: str, blob: Blob) -> None:
    """Write a layer's record; its blob and `referrer.EMPTY` must be in the repository.

    Raises:
        RegistryError: the registry refuses it.
    """
    manifests.put(registry, tag(key), record(key, title, blob))


def record(key: str, title: str, blob: Blob) -> bytes:
    """Return a layer's record: an OCI artifact manifest, always of the same bytes."""
    document = {
        "annotations": {
            "org.opencontainers.image.title": title,
            "roll.layer.diff-id": blob.diff_id,
            "roll.layer.key": key,
            "roll.layer.unpacked": str(blob.unpacked),
        },
        "artifactType": _ARTIFACT_TYPE,
        "config": descriptor_of(EMPTY_TYPE, EMPTY),
        "layers": [{"digest": blob.digest, "mediaType": blob.media_type, "size": blob.size}],
        "mediaType": MANIFEST_TYPE,
        "schemaVersion": 2,
    }
    return canonical_json(document)


def parse(content: bytes, key: str) -> Blob:
    """Return the layer of a record.

    Args:
        content: of the manifest.
        key: that the record must be of.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not a record, or another key's.
    """
    document: dict[str, Any] = untrusted_json.loads(content)
    notes = document["annotations"]
    if notes["roll.layer.key"] != key:
        raise ValueError("of another key")
    (descriptor,) = document["layers"]
    size, unpacked = descriptor["size"], int(notes["roll.layer.unpacked"])
    if type(size) is not int or size <= 0 or unpacked <= 0:
        raise ValueError("a size is wrong")
    media_type = descriptor["mediaType"]
    if media_type not in LAYER_TYPES:
        raise ValueError(f"{media_type!r} is not the media type of a layer")
    digest, diff_id = descriptor["digest"], notes["roll.layer.diff-id"]
    if not (DIGEST.fullmatch(digest) and DIGEST.fullmatch(diff_id)):
        raise ValueError("a digest is malformed")
    return Blob(digest, diff_id, size, unpacked, media_type)
