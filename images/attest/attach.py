"""The SBOM and the provenance of an image, attached to it in the store.

Both are made with the image: the locks of a checkout change later, the image does not. They are OCI
artifacts with the image as their subject, in the store and in registries.
"""

from __future__ import annotations

from contextlib import suppress

from images.attest import provenance
from images.attest.materials import Materials
from images.attest.provenance import PREDICATE_TYPE, Build
from images.errors import IntegrityError, StoreError, UsageError
from images.oci import referrer
from images.oci.descriptor import Blob
from images.oci.image import Image
from images.oci.referrer import Referrer
from images.oci.store.store import Store

SBOM = referrer.SBOM
PROVENANCE = referrer.PROVENANCE

_CREATED = "org.opencontainers.image.created"
_PREDICATE = "in-toto.io/predicate-type"  # as BuildKit names it


def complete(store: Store, image: Image, made_from: Materials, build: Build) -> None:
    """Add the SBOM and the provenance of an image to the store, where it lacks them.

    The provenance of the first build that made these bytes stays.

    Args:
        store: has the image.
        image: the image.
        made_from: the locks that it was made from.
        build: the run that has just made it.
    """
    with store.layer_keys.making(image.manifest_digest.removeprefix("sha256:")):
        have = {item.artifact_type: item for item in store.attached(image.manifest_digest)}
        made = []
        if SBOM not in have:
            made.append(_sbom(store, image, made_from))
        if PROVENANCE not in have:
            sbom = have[SBOM] if SBOM in have else made[0]
            made.append(_provenance(image, made_from, build, sbom))
        if made:
            store.attach(made)


def _sbom(store: Store, image: Image, made_from: Materials) -> Referrer:
    content, notes = _sbom_content(store, image, made_from), {_CREATED: image.created}
    return Referrer(SBOM, f"{image.ref}.cdx.json", content, image.descriptor, notes)


def _sbom_content(store: Store, image: Image, made_from: Materials) -> bytes:
    """Return the SBOM of an earlier image of the same locks if it is intact, else a new one."""
    from images.attest import sbom

    key = sbom.key(image, made_from)
    if known := store.layer_keys.known(key):
        with suppress(IntegrityError, StoreError):
            return store.blobs.read(known.digest)
    content = sbom.document(image, made_from)
    digest = store.blobs.put(content)
    store.layer_keys.remember(key, Blob(digest, digest, len(content), len(content), SBOM))
    return content


def _provenance(image: Image, made_from: Materials, build: Build, sbom: Referrer) -> Referrer:
    content = provenance.statement(image, made_from, build, sbom)
    notes = {_PREDICATE: PREDICATE_TYPE}
    return Referrer(PROVENANCE, f"{image.ref}.intoto.json", content, image.descriptor, notes)


def find(store: Store, image: Image, artifact_type: str) -> bytes:
    """Return the SBOM or the provenance of an image.

    Raises:
        UsageError: the store has none: the image is of a builder that made none.
    """
    for item in store.attached(image.manifest_digest):
        if item.artifact_type == artifact_type:
            return item.content
    raise UsageError(
        f"{store.path}: {image.ref}: no {_NAMES[artifact_type]} of this image",
        remedy=f"python build.py --target {image.ref}  # makes no layer again",
    )


_NAMES = {SBOM: "SBOM", PROVENANCE: "provenance"}
