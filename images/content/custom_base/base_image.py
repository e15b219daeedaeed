"""A custom base: an image that a target is built on instead of the Debian base.

Its layers are used as they are. Its documents are read here, its layers in
`images.content.custom_base.base_image_layers`; both are checked against the target
(`images.content.custom_base.fit`) before anything else is fetched.

Specification: OCI Image Format 1.1, manifest.md, config.md, image-index.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from images.content.custom_base import source as base_source
from images.content.custom_base.refusal import refusal
from images.content.custom_base.source import CachedImageSource
from images.errors import IntegrityError
from images.inputs.build_options import FetchOptions
from images.inputs.lock.artifact import Artifact
from images.inputs.matrix.base_reference import BaseReference
from images.oci.descriptor import COMPRESSIONS, LAYER_TYPE, LAYER_TYPES, Blob, checked_digest
from images.util import limits, untrusted_json

_DOCKERS = "application/vnd.docker.image.rootfs.diff.tar."
_LAYER_TYPES = {kind: kind for kind in LAYER_TYPES} | {
    # Docker's name for the same bytes: a manifest of OCI's names them as OCI does.
    f"{_DOCKERS}{compression}": LAYER_TYPE + compression
    for compression in COMPRESSIONS
}


@dataclass(frozen=True, slots=True)
class BaseImage:
    """A custom base, without what is in its layers.

    Attributes:
        reference: as matrix.yaml has it.
        manifest_digest: of the manifest for linux/amd64; the reference may be to an index.
        platform: of its config, e.g. `linux/amd64`.
        blobs: its layers, lowest first; bytes of their tars are not known yet (0).
        env: of its config.
        labels: of its config.
        history: of its config; as many entries that are not empty as it has layers.
        documents: its index, manifest and config as files of the cache.
    """

    reference: BaseReference
    manifest_digest: str
    platform: str
    blobs: tuple[Blob, ...]
    env: dict[str, str]
    labels: dict[str, str]
    history: tuple[dict[str, Any], ...]
    documents: tuple[Artifact, ...]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All its files, as they are in the cache."""
        layers = [base_source.layer_artifact(blob.digest, blob.size) for blob in self.blobs]
        return self.documents + tuple(dict.fromkeys(layers))


def describe(reference: BaseReference, options: FetchOptions) -> BaseImage:
    """Return the contents of a base's documents; they are fetched if the cache lacks them.

    Raises:
        FetchError, RegistryError, IntegrityError, StoreError: they are unavailable or cannot be
            stored.
        MatrixError: it is not an image for linux/amd64 whose layers can be used.
    """
    with CachedImageSource(reference, options) as source:
        try:
            return _described(reference, source)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{reference}: not an OCI or Docker image: {error!r}",
                remedy="name another image, by its digest, under `base:` in matrix.yaml",
            ) from error


def _described(reference: BaseReference, source: CachedImageSource) -> BaseImage:
    digest, documents = reference.digest, []
    content = source.manifest(digest)
    documents.append(base_source.document_artifact("manifest", digest, content))
    head = untrusted_json.loads(content)
    if "manifests" in head:
        digest = _for_amd64(reference, head)
        content = source.manifest(digest)
        documents.append(base_source.document_artifact("manifest", digest, content))
        head = untrusted_json.loads(content)
    described = head["config"]
    size = _size(described, limits.DOCUMENT)
    raw = source.config(checked_digest(described["digest"]), size)
    documents.append(base_source.document_artifact("config", described["digest"], raw))
    body = untrusted_json.loads(raw)
    settings = body.get("config") or {}
    blobs = tuple(
        Blob(checked_digest(item["digest"]), checked_digest(diff_id), _size(item), 0, kind)
        for item, diff_id, kind in zip(
            head["layers"], body["rootfs"]["diff_ids"], _kinds(reference, head), strict=True
        )
    )
    return BaseImage(
        reference,
        digest,
        f"{body['os']}/{body['architecture']}",
        blobs,
        dict(line.partition("=")[::2] for line in settings.get("Env") or []),
        {str(name): str(value) for name, value in (settings.get("Labels") or {}).items()},
        _history(body.get("history") or [], len(blobs)),
        tuple(documents),
    )


def _size(descriptor: Mapping[str, Any], most: int = limits.LAYER_BYTES) -> int:
    """Return the size in a descriptor; so much is fetched before its hash can be checked.

    Raises:
        ValueError: it is not a size, or exceeds the limit.
    """
    size = descriptor["size"]
    if type(size) is not int or not 0 <= size <= most:
        raise ValueError(f"{size!r} is not the size of a blob; {most} are the limit")
    return size


def _for_amd64(reference: BaseReference, index: Mapping[str, Any]) -> str:
    """Return the digest of the manifest for linux/amd64 in an index."""
    platforms: dict[str, str] = {}
    for item in index["manifests"]:
        platform = item.get("platform") or {}
        name = f"{platform.get('os')}/{platform.get('architecture')}"
        platforms.setdefault(name, checked_digest(item["digest"]))
    if "linux/amd64" not in platforms:
        raise refusal(reference, [f"it is for {', '.join(platforms)}, not for linux/amd64"])
    return platforms["linux/amd64"]


def _kinds(reference: BaseReference, head: Mapping[str, Any]) -> list[str]:
    """Return the layers' media types, as OCI names them."""
    unusable = {item["mediaType"] for item in head["layers"]} - _LAYER_TYPES.keys()
    if unusable:
        reasons = [
            f"it has layers of the kind {kind}: make them gzip or zstd, e.g. by "
            "skopeo copy --dest-compress --dest-compress-format zstd"
            for kind in sorted(unusable)
        ]
        raise refusal(reference, reasons)
    return [_LAYER_TYPES[item["mediaType"]] for item in head["layers"]]


def _history(found: list[dict[str, Any]], layers: int) -> tuple[dict[str, Any], ...]:
    """Return the history; one entry per layer where it does not describe all of them."""
    if sum(not item.get("empty_layer") for item in found) == layers:
        return tuple(found)
    return tuple({"created_by": "base image"} for _ in range(layers))
