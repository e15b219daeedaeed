"""Package URLs: how an SBOM and a provenance name what an image is made from.

Specification: Package URL, https://github.com/package-url/purl-spec (types pypi, deb, oci).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from images.content import runtime_wheel
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution

if TYPE_CHECKING:
    from packageurl import PackageURL

    from images.oci.image import Image

REPOSITORY = "roll-sglang"
"""The image's name in a package URL; the registry is not known when an image is made."""

_ARCHITECTURE = re.compile(r"_([a-z0-9]+)\.deb")
_REBUILT = re.compile(r"\+b\d+$")


def of_distribution(item: Distribution) -> PackageURL:
    """Return `pkg:pypi/…`, without an index; `pkg:generic/…` of a wheel that the index lacks."""
    from packageurl import PackageURL

    if item.custom:
        qualifiers = {"checksum": f"sha256:{item.artifact.sha256}"}
        return PackageURL("generic", None, item.name, item.version, qualifiers)
    return PackageURL("pypi", None, item.name, item.version)


def of_deb(item: Deb, distro: str) -> PackageURL:
    """Return `pkg:deb/debian/…`; `upstream` is the source package, which Debian's advisories name.

    Args:
        item: the package.
        distro: its release, e.g. `debian-12`.
    """
    from packageurl import PackageURL

    qualifiers = {"distro": distro}
    if match := _ARCHITECTURE.search(item.artifact.filename):
        qualifiers["arch"] = match[1]
    source = item.path.split("/")[-2]  # pool/…/LETTER/SOURCE/FILE
    rebuilt = _REBUILT.search(item.version)  # its source does not have the rebuild's version
    if source != item.package or rebuilt:
        version = f"@{item.version[: rebuilt.start()]}" if rebuilt else ""
        qualifiers["upstream"] = source + version
    return PackageURL("deb", "debian", item.package, item.version, qualifiers)


def of_runtime() -> PackageURL:
    """Return the URL of `roll_runtime`: not `pypi`, where another project may take that name."""
    from packageurl import PackageURL

    return PackageURL("generic", None, "roll-runtime", runtime_wheel.version())


def of_custom_base(digest: str, repository: str) -> PackageURL:
    """Return `pkg:oci/…` of a custom base, whose content its own SBOM lists.

    Args:
        digest: of its manifest.
        repository: where it is in a registry; "" if it is in a layout.
    """
    from packageurl import PackageURL

    qualifiers = {"arch": "amd64", **({"repository_url": repository} if repository else {})}
    name = repository.rpartition("/")[2] or "base"
    return PackageURL("oci", None, name, digest, qualifiers)


def of_image(image: Image) -> PackageURL:
    """Return `pkg:oci/…` of an image by its manifest's digest."""
    from packageurl import PackageURL

    return PackageURL("oci", None, REPOSITORY, image.manifest_digest, {"arch": "amd64"})


def of_tag(image: Image) -> PackageURL:
    """Return `pkg:oci/…` of an image by its tag, which stays the same when the digest changes."""
    from packageurl import PackageURL

    return PackageURL("oci", None, REPOSITORY, None, {"arch": "amd64", "tag": image.ref})
