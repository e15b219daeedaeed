"""References to custom bases."""

from __future__ import annotations

import pytest

from images.errors import BuildError, UsageError
from images.inputs.matrix import base_reference

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "repository", "layout"),
    [
        (f"reg.example.com/team/base@{DIGEST}", "reg.example.com/team/base", ""),
        (f"localhost:5000/base:12@{DIGEST}", "localhost:5000/base", ""),
        (f"oci:bases/cuda@{DIGEST}", None, "bases/cuda"),
        (f"oci:/data/bases:12.8@{DIGEST}", None, "/data/bases"),
    ],
)
def test_reference(text: str, repository: str | None, layout: str) -> None:
    found = base_reference.parse(text)
    assert str(found) == text
    assert (found.digest, found.layout) == (DIGEST, layout)
    assert (str(found.repository) if found.repository else None) == repository


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reg.example.com/base:12", "names no digest"),
        ("oci:base:12", "names no digest"),
        ("reg.example.com/base@sha256:abc", "'sha256:abc' is no digest"),
        (f"reg.example.com/base@sha512:{'a' * 128}", "is no digest"),
        (f"ubuntu@{DIGEST}", "names no registry"),
        (f"docker://reg.example.com/base@{DIGEST}", "no scheme"),
        (f"oci:@{DIGEST}", "names no directory"),
    ],
)
def test_reference_that_is_none(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        base_reference.parse(text)
    assert said in caught.value.message
    assert said in (base_reference.wrong(text) or "")
    assert isinstance(caught.value, BuildError)


def test_way_to_find_a_digest_is_reported() -> None:
    command = "skopeo inspect --format '{{.Digest}}' "
    assert f"{command}docker://r.io/a:1" in (base_reference.wrong("r.io/a:1") or "")
    assert f"{command}oci:a:1" in (base_reference.wrong("oci:a:1") or "")
