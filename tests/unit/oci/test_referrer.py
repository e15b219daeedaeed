"""Documents about an image as artifacts: manifests as the specification has them, read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from images.oci import referrer
from images.oci.descriptor import MANIFEST_TYPE, canonical_json, descriptor_of, digest_of
from images.oci.referrer import Referrer

IMAGE = b'{"an": "image"}'
SBOM = Referrer(
    referrer.SBOM, "one.cdx.json", b"{}", descriptor_of(MANIFEST_TYPE, IMAGE), {"made": "today"}
)


def test_manifest_is_what_the_specification_requires() -> None:
    document = json.loads(SBOM.manifest)
    assert document["mediaType"] == MANIFEST_TYPE
    assert document["artifactType"] == referrer.SBOM
    assert document["subject"] == descriptor_of(MANIFEST_TYPE, IMAGE)
    assert document["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    (layer,) = document["layers"]
    assert layer["digest"] == digest_of(b"{}")
    assert layer["annotations"] == {"org.opencontainers.image.title": "one.cdx.json"}


def test_descriptor_has_type_and_annotations_of_the_manifest() -> None:
    found = SBOM.descriptor
    assert (found["digest"], found["size"]) == (SBOM.digest, len(SBOM.manifest))
    assert (found["artifactType"], found["annotations"]) == (referrer.SBOM, {"made": "today"})


def test_document_is_read_back() -> None:
    assert referrer.parse(SBOM.manifest, SBOM.content) == SBOM
    assert referrer.subject_of(SBOM.manifest) == digest_of(IMAGE)
    assert referrer.content_of(SBOM.manifest) == [digest_of(b"{}")]


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b'{"subject": 5}', b"\xff"])
def test_what_is_no_artifact_has_no_subject(manifest: bytes) -> None:
    assert referrer.subject_of(manifest) is None


@pytest.mark.parametrize("more", [{"other": 1}, {"config": descriptor_of("x", b"x")}])
def test_artifact_of_another_program_is_refused(more: dict[str, Any]) -> None:
    other = canonical_json({**json.loads(SBOM.manifest), **more})
    with pytest.raises(ValueError, match="another form"):
        referrer.parse(other, SBOM.content)
