"""Whether a registry takes zstd layers, asked before gigabytes of them are sent in vain.

There is no question for that. A manifest of the image's own types whose blobs are nowhere is: a
registry that looks at the types first refuses them, any other one says that the blobs are missing.
Should a registry take it, it holds one small manifest without a name that nobody refers to, always
the same one.
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
from images.oci.registry import refusals
from images.oci.registry.client import Registry
from images.oci.registry.refusals import UnsupportedError
from images.oci.store.store import Store

_WORTH = 64 << 20
"""Bytes to send from which on the question is cheap beside them."""

_BLOB = "roll: a blob that does not exist"


def has_zstd(made: Image) -> bool:
    """Whether a layer of the image is compressed so."""
    return any(layer.blob.media_type.endswith("zstd") for layer in made.layers)


def check(
    store: Store, made: Image, registry: Registry, known: Collection[str], to_send: int
) -> None:
    """Ask, where that is worth it and this store never pushed to that registry before.

    Args:
        store: remembers its pushes.
        made: the image.
        registry: where it goes.
        known: blobs of an image like it that the repository has.
        to_send: bytes that would be sent.

    Raises:
        UnsupportedError: it refuses the type.
    """
    if to_send < _WORTH or known or not has_zstd(made):
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
    except RegistryError:  # what does not answer to this is no reason to send nothing
        return
    refusal = refusals.of(response)
    if response.status_code >= 400 and refusal.unfit and "zstd" in refusal.words:
        doing = f"asking {registry.repository.name} whether it takes zstd layers"
        raise UnsupportedError(registry.transport.refused(response, doing).message)


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
