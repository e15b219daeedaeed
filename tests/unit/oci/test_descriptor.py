"""The vocabulary of the specification: digests, descriptors, and values from outside."""

from __future__ import annotations

from typing import Any

import pytest

from images.oci import descriptor
from images.oci.descriptor import CONFIG_TYPE

EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
"""The digest of `{}`: OCI Image Format 1.1, manifest.md, "Guidance for an Empty Descriptor"."""


def test_descriptor_of_the_empty_document() -> None:
    expected = {"mediaType": CONFIG_TYPE, "digest": EMPTY, "size": 2}
    assert descriptor.descriptor_of(CONFIG_TYPE, b"{}") == expected


def test_json_has_one_form() -> None:
    assert (
        descriptor.canonical_json({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'.encode()
    )


def test_layer_types_are_those_of_the_specification() -> None:
    layer = "application/vnd.oci.image.layer.v1.tar"
    assert {f"{layer}+gzip", f"{layer}+zstd"} == descriptor.LAYER_TYPES


def test_digest_from_outside() -> None:
    assert descriptor.checked_digest(EMPTY) == EMPTY


@pytest.mark.parametrize(
    "value", [None, 5, b"", "", "sha256:", EMPTY[:-1], EMPTY + "0", EMPTY.upper(), f"{EMPTY}\n"]
)
def test_malformed_digest_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        descriptor.checked_digest(value)


@pytest.mark.parametrize("value", [None, 5, b"text", "half of a pair: \ud800"])
def test_text_that_cannot_be_written_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        descriptor.checked_text(value)
