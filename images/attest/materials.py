"""What an image is made from, and how package URLs name it.

Specification: Package URL, https://github.com/package-url/purl-spec (types pypi, deb, oci).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.content import runtime_wheel
from images.inputs.lock import base_lock, cuda_lock
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock

if TYPE_CHECKING:
    from packageurl import PackageURL

    from images.oci.image import Image

REPOSITORY = "roll-sglang"
"""The image's name in a package URL; the registry is not known when an image is made."""

_ARCHITECTURE = re.compile(r"_([a-z0-9]+)\.deb")
_REBUILT = re.compile(r"\+b\d+$")


@dataclass(frozen=True, slots=True)
class Materials:
    """The locked files of an image.

    Attributes:
        lock: the target's.
        base: the Debian packages of the root file system.
        tools: the CUDA compiler's sources; of these only parts are in the image.
        own_base: the digest of the own base's manifest; "" if it stands on ours.
        base_repository: where that base is in a registry, e.g. `registry.example.com/team/base`;
            "" if it is in a layout.
    """

    lock: Lock
    base: Sequence[Deb]
    tools: Toolkit
    own_base: str = ""
    base_repository: str = ""

    def distributions(self) -> Iterator[Distribution]:
        """What is in the image of them, those of the compiler last; each file once."""
        return iter(dict.fromkeys([*self.lock.distributions, *self.tools.wheels]))

    def debs(self) -> Iterator[tuple[Deb, str]]:
        """The Debian packages, each with its release; those of the compiler last."""
        yield from ((item, base_lock.DISTRO) for item in self.base)
        yield from ((item, cuda_lock.DISTRO) for item in self.tools.debs)


def of_distribution(item: Distribution) -> PackageURL:
    """`pkg:pypi/…`; names no index. Of a wheel that the index does not have `pkg:generic/…`."""
    from packageurl import PackageURL

    if item.custom:
        qualifiers = {"checksum": f"sha256:{item.artifact.sha256}"}
        return PackageURL("generic", None, item.name, item.version, qualifiers)
    return PackageURL("pypi", None, item.name, item.version)


def of_deb(item: Deb, distro: str) -> PackageURL:
    """`pkg:deb/debian/…`; `upstream` is the source package, by which Debian tells of faults."""
    from packageurl import PackageURL

    qualifiers = {"distro": distro}
    if match := _ARCHITECTURE.search(item.artifact.filename):
        qualifiers["arch"] = match[1]
    source = item.path.split("/")[-2]  # pool/…/LETTER/SOURCE/FILE
    rebuilt = _REBUILT.search(item.version)  # a rebuild has a version that its source has not
    if source != item.package or rebuilt:
        version = f"@{item.version[: rebuilt.start()]}" if rebuilt else ""
        qualifiers["upstream"] = source + version
    return PackageURL("deb", "debian", item.package, item.version, qualifiers)


def of_runtime() -> PackageURL:
    """Of `roll_runtime`; not `pypi`, where another's package may have that name."""
    from packageurl import PackageURL

    return PackageURL("generic", None, "roll-runtime", runtime_wheel.version())


def of_base(made_from: Materials) -> PackageURL:
    """`pkg:oci/…` of an own base; what is in it is for its own SBOM to tell."""
    from packageurl import PackageURL

    repository = made_from.base_repository
    qualifiers = {"arch": "amd64", **({"repository_url": repository} if repository else {})}
    name = repository.rpartition("/")[2] or "base"
    return PackageURL("oci", None, name, made_from.own_base, qualifiers)


def of_image(image: Image) -> PackageURL:
    """`pkg:oci/…`, by the manifest's digest."""
    from packageurl import PackageURL

    return PackageURL("oci", None, REPOSITORY, image.manifest_digest, {"arch": "amd64"})


def of_tag(image: Image) -> PackageURL:
    """`pkg:oci/…` of whatever image has the target's name: it stays when the digest does not."""
    from packageurl import PackageURL

    return PackageURL("oci", None, REPOSITORY, None, {"arch": "amd64", "tag": image.ref})
