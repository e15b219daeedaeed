"""Documents about an image as OCI artifacts whose subject is that image.

Specification: OCI Image Format 1.1, manifest.md ("Guidelines for Artifact Usage", "Guidance for an
Empty Descriptor"): an image manifest with `artifactType`, an empty config and `subject`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from images.oci.descriptor import MANIFEST_TYPE, TITLE, canonical_json, descriptor_of, digest_of
from images.util import untrusted_json

EMPTY = b"{}"
"""The config of an artifact that has none."""

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
SBOM = "application/vnd.cyclonedx+json"
PROVENANCE = "application/vnd.in-toto+json"
TYPES = frozenset({SBOM, PROVENANCE})
"""Artifact types of the documents that this builder makes."""


@dataclass(frozen=True)
class Referrer:
    """A document about an image.

    Attributes:
        artifact_type: media type of the document and of the artifact.
        title: the file's name when it is downloaded.
        content: the document.
        subject: the descriptor of the image's manifest.
        annotations: of the artifact; a registry lists them with its referrers.
    """

    artifact_type: str
    title: str
    content: bytes
    subject: Mapping[str, Any]
    annotations: Mapping[str, str]

    @cached_property
    def manifest(self) -> bytes:
        """The artifact's manifest."""
        layer = descriptor_of(self.artifact_type, self.content)
        return canonical_json(
            {
                "annotations": dict(self.annotations),
                "artifactType": self.artifact_type,
                "config": descriptor_of(EMPTY_TYPE, EMPTY),
                "layers": [{"annotations": {TITLE: self.title}, **layer}],
                "mediaType": MANIFEST_TYPE,
                "schemaVersion": 2,
                "subject": dict(self.subject),
            }
        )

    @cached_property
    def digest(self) -> str:
        """`sha256:…` of the manifest."""
        return digest_of(self.manifest)

    @property
    def descriptor(self) -> dict[str, Any]:
        """Its entry in an index, with the type and the annotations of the manifest."""
        return {
            "annotations": dict(self.annotations),
            "artifactType": self.artifact_type,
            **descriptor_of(MANIFEST_TYPE, self.manifest),
        }


def subject_of(manifest: bytes) -> str | None:
    """Return the digest of a manifest's subject; None if it has none or is not a manifest."""
    try:
        return str(untrusted_json.loads(manifest)["subject"]["digest"])
    except (ValueError, KeyError, TypeError):
        return None


def content_of(manifest: bytes) -> list[str]:
    """Return the digests of an artifact's documents.

    Raises:
        ValueError, KeyError, TypeError: it is not a manifest.
    """
    return [str(layer["digest"]) for layer in untrusted_json.loads(manifest)["layers"]]


def parse(manifest: bytes, content: bytes) -> Referrer:
    """Return the document that a manifest of this builder describes.

    Raises:
        ValueError, KeyError, TypeError: another program made it.
    """
    head = untrusted_json.loads(manifest)
    (layer,) = head["layers"]
    title, annotations = layer["annotations"][TITLE], head["annotations"]
    found = Referrer(head["artifactType"], title, content, head["subject"], annotations)
    if found.manifest != manifest:
        raise ValueError("an artifact of another form")
    return found
