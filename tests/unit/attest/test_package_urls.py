"""Package URLs: each kind of file by the type and the qualifiers that scanners look for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from images.attest import package_urls
from images.content import runtime_wheel
from images.oci.store.store import open_store
from tests.unit.attestations import deb, image_in, wheel


def test_distribution_is_of_pypi_unless_the_index_lacks_it() -> None:
    assert str(package_urls.of_distribution(wheel("torch", "2.8.0"))) == "pkg:pypi/torch@2.8.0"
    own = replace(wheel("kernels"), custom="matrix.yaml:70")
    purl = package_urls.of_distribution(own)
    assert (purl.type, purl.name) == ("generic", "kernels")
    assert purl.qualifiers == {"checksum": f"sha256:{own.artifact.sha256}"}


@pytest.mark.parametrize(
    ("package", "version", "source", "upstream"),
    [
        ("bash", "1.0-1", "bash", None),
        ("libgcc-s1", "12.2.0-14", "gcc-12", "gcc-12"),
        ("libbz2-1.0", "1.0.8-5+b1", "bzip2", "bzip2@1.0.8-5"),
        ("bash", "5.2-2+b3", "bash", "bash@5.2-2"),  # its source is not rebuilt with it
    ],
)
def test_debian_package_names_its_source_where_that_differs(
    package: str, version: str, source: str, upstream: str | None
) -> None:
    purl = package_urls.of_deb(deb(package, version, source=source), "debian-12")
    assert (purl.type, purl.namespace, purl.name, purl.version) == (
        "deb", "debian", package, version
    )  # fmt: skip
    assert purl.qualifiers.get("upstream") == upstream
    assert purl.qualifiers["distro"] == "debian-12"


def test_custom_base_has_its_repository_if_it_is_in_a_registry() -> None:
    digest = f"sha256:{'b' * 64}"
    purl = package_urls.of_custom_base(digest, "reg.example.com/team/approved")
    assert (purl.type, purl.name, purl.version) == ("oci", "approved", digest)
    assert purl.qualifiers["repository_url"] == "reg.example.com/team/approved"
    in_layout = package_urls.of_custom_base(digest, "")
    assert (in_layout.name, in_layout.qualifiers) == ("base", {"arch": "amd64"})


def test_image_is_named_by_digest_or_by_tag(tmp_path: Path) -> None:
    image = image_in(open_store(tmp_path / "store"))
    assert package_urls.of_image(image).version == image.manifest_digest
    by_tag = package_urls.of_tag(image)
    assert (by_tag.version, by_tag.qualifiers["tag"]) == (None, image.ref)


def test_roll_runtime_is_not_a_package_of_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_wheel, "version", lambda: "9")
    assert str(package_urls.of_runtime()) == "pkg:generic/roll-runtime@9"
