"""Probe whether a registry accepts zstd layers, before gigabytes of them are sent in vain.

The protocol has no request for that, so the probe puts a manifest of the image's own types whose
blobs do not exist: a registry that checks the types first refuses them, any other one reports that
the blobs are missing. If a registry accepts it, it holds one small untagged manifest, always the
same one.
"""

from __future__ import annotations

from collections.abc import Collection

from images.errors import RegistryError
from images.export.push import history
from images.oci.descriptor import (
    CONFIG_TYPE,
    MANIFEST_TYPE,
    canonical_json,
    descriptor_of,
    digest_of,
)
from images.oci.image import Image
from images.oci.registry.client import Registry
from images.oci.registry.refusals import UnsupportedError
from images.oci.store.store import Store

MIN_BYTES = 64 << 20
"""Bytes to send from which on a probe costs little in comparison."""

_BLOB = "roll: a blob that does not exist"


def has_zstd(made: Image) -> bool:
    """Return whether a layer of the image is compressed with zstd."""
    return any(layer.blob.media_type.endswith("zstd") for layer in made.layers)


def check(
    store: Store, made: Image, registry: Registry, known: Collection[str], to_send: int
) -> None:
    """Probe the registry, where that is worth it and this store never pushed there before.

    Args:
        store: has the history of its pushes.
        made: the image.
        registry: the repository that it goes to.
        known: blobs of an image like it that the repository has.
        to_send: bytes that would be sent.

    Raises:
        UnsupportedError: the registry refuses the type.
    """
    if to_send < MIN_BYTES or known or not has_zstd(made):
        return
    if history.known(store, registry.canonical.registry):
        return
    content = _manifest(made)
    try:
        response = registry.call(
            "PUT",
            f"manifests/{digest_of(content)}",
            body=content,
            headers={"Content-Type": MANIFEST_TYPE},
        )
    except RegistryError:  # no answer to a probe is no reason to send nothing
        return
    doing = f"asking {registry.repository.name} whether it accepts zstd layers"
    error = registry.transport.refused(response, doing)
    if error.refusal.unsupported_zstd:
        raise UnsupportedError(error.message, error.refusal)


def _manifest(made: Image) -> bytes:
    nowhere = _BLOB.encode()
    types = sorted({layer.blob.media_type for layer in made.layers})
    return canonical_json(
        {
            "config": descriptor_of(CONFIG_TYPE, nowhere + b" 0"),
            "layers": [descriptor_of(kind, nowhere + b" " + kind.encode()) for kind in types],
            "mediaType": MANIFEST_TYPE,
            "schemaVersion": 2,
        }
    )
