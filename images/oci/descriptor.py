"""The vocabulary of the OCI specifications: media types, digests, descriptors and layer blobs.

Specification: OCI Image Format 1.1, https://github.com/opencontainers/image-spec (descriptor.md,
media-types.md, annotations.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
TITLE = "org.opencontainers.image.title"
REF_NAME = "org.opencontainers.image.ref.name"

Compression = Literal["zstd", "gzip"]
COMPRESSIONS: tuple[Compression, ...] = ("zstd", "gzip")
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+"
"""Media type of a layer, up to the name of its compression (layer.md)."""

LAYER_TYPES = frozenset(LAYER_TYPE + compression for compression in COMPRESSIONS)

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
"""A digest (descriptor.md, "Digests") of the one algorithm that is accepted here."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A layer as it is in a store or a registry.

    Attributes:
        digest: `sha256:…` of the compressed bytes.
        diff_id: `sha256:…` of the tar.
        size: compressed bytes.
        unpacked: bytes of the tar.
        media_type: OCI media type of the compressed bytes.
    """

    digest: str
    diff_id: str
    size: int
    unpacked: int
    media_type: str


def digest_of(content: bytes) -> str:
    """Return the OCI digest, `sha256:…`, of a document."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor_of(media_type: str, content: bytes) -> dict[str, Any]:
    """Return the OCI descriptor of a document."""
    return {"digest": digest_of(content), "mediaType": media_type, "size": len(content)}


def canonical_json(value: Any) -> bytes:
    """Return a JSON-able value in the one form of which its digest is computed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def checked_digest(value: Any) -> str:
    """Return a value from outside if it is a digest.

    Raises:
        ValueError, TypeError: it is not.
    """
    if not DIGEST.fullmatch(checked_text(value)):
        raise ValueError(f"{value!r} is not a sha256 digest")
    return checked_text(value)


def checked_text(value: Any) -> str:
    """Return a value from outside if it is text that can be printed and written.

    Raises:
        ValueError, TypeError: it is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    value.encode()  # not half of a surrogate pair
    return value
