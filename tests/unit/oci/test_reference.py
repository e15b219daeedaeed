"""Names of images in registries: a host is required, and each fault is reported."""

from __future__ import annotations

import pytest

from images.errors import UsageError
from images.oci import reference
from images.oci.reference import Repository

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "registry", "name", "tag"),
    [
        ("registry.example.com/app", "registry.example.com", "app", None),
        ("registry.example.com/team/app:v1", "registry.example.com", "team/app", "v1"),
        ("localhost/app", "localhost", "app", None),
        ("localhost:5000/a/b/c:T_1.2-3", "localhost:5000", "a/b/c", "T_1.2-3"),
        ("127.0.0.1:5000/a-b__c.d--e", "127.0.0.1:5000", "a-b__c.d--e", None),
        ("[::1]:5000/app:1", "[::1]:5000", "app", "1"),
        ("Registry.Example/app", "Registry.Example", "app", None),
        ("docker.io/app", "docker.io", "app", None),
        ("host:443/app", "host:443", "app", None),
    ],
)
def test_parts_of_a_reference(text: str, registry: str, name: str, tag: str | None) -> None:
    assert reference.parse(text) == (Repository(registry, name), tag)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no registry"),
        ("app", "names no registry"),
        ("app:v1", "names no registry"),
        ("team/app", "names no registry"),
        ("/app", "names no registry"),
        ("bad_host.example/app", "names no registry"),
        ("host:port/app", "names no registry"),
        ("host:99999/app", "names no registry"),
        ("[1:2]:5000/app", "names no registry"),
        ("-x.example/app", "names no registry"),
        ("user:pass@host.example/app", "a digest cannot be chosen"),
        ("https://host.example/app", "no scheme"),
        (f"host.example/app@{DIGEST}", "a digest cannot be chosen"),
        ("host.example/", "is not a repository name"),
        ("host.example/App", "is not a repository name"),
        ("host.example/a//b", "is not a repository name"),
        ("host.example/a/", "is not a repository name"),
        ("host.example/../b", "is not a repository name"),
        ("host.example/a?b", "is not a repository name"),
        ("host.example/a:", "is not a tag"),
        ("host.example/a:.x", "is not a tag"),
        ("host.example/a:x y", "is not a tag"),
        ("host.example/a:b:c", "is not a tag"),
        ("host.example/a:" + "x" * 129, "is not a tag"),
        ("host.example/" + "a" * 250, "longer than 255"),
    ],
)
def test_wrong_references_are_reported_with_a_fix(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as error:
        reference.parse(text)
    assert reason in error.value.message
    assert error.value.remedy


def test_a_missing_host_is_reported_with_an_example() -> None:
    with pytest.raises(UsageError) as error:
        reference.parse("team/app")
    assert "registry.example.com/team/" in (error.value.remedy or "")


@pytest.mark.parametrize("text", ["team/base", "host.example/team/base"])
def test_repository_to_mount_from(text: str) -> None:
    assert reference.repository_name(text, "host.example") == "team/base"


@pytest.mark.parametrize(
    ("text", "registry", "plain_http"),
    [
        ("Host.example/team/base", "host.example", False),
        ("host.example:443/team/base", "host.example", False),
        ("host.example/team/base", "host.example:443", False),
        ("host.example:80/team/base", "host.example", True),
        ("registry:443/team/base", "Registry:443", False),
    ],
)
def test_repository_to_mount_from_in_another_spelling(
    text: str, registry: str, plain_http: bool
) -> None:
    found = reference.repository_name(text, registry, plain_http=plain_http)
    assert found == "team/base"


@pytest.mark.parametrize("text", ["host.example:443/base", "host.example:5000/base"])
def test_another_port_is_another_registry(text: str) -> None:
    with pytest.raises(UsageError, match="another registry"):
        reference.repository_name(text, "host.example", plain_http=True)


@pytest.mark.parametrize(
    ("registry", "plain_http", "canonical"),
    [
        ("Host.Example", False, "host.example"),
        ("host.example:443", False, "host.example"),
        ("host.example:443", True, "host.example:443"),
        ("host.example:80", True, "host.example"),
        ("[0::1]:5000", True, "[::1]:5000"),
    ],
)
def test_registry_has_one_canonical_spelling(
    registry: str, plain_http: bool, canonical: str
) -> None:
    found = reference.canonical(Repository(registry, "app"), plain_http=plain_http)
    assert found == Repository(canonical, "app")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("other.example/base", "another registry"),
        ("Base", "is not a repository name"),
        ("base:1", "is not a repository name"),
        ("host.example/", "is not a repository name"),
    ],
)
def test_wrong_repository_to_mount_from(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        reference.repository_name(text, "host.example")
