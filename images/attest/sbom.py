"""The SBOM of an image: the contents of its locks, as CycloneDX.

Specification: CycloneDX 1.6 (ECMA-424), https://cyclonedx.org. It is not made by scanning the
image, which contains the files that its locks list, each by its hash, and nothing else. CycloneDX,
because scanners find a package by its package URL, and because its library is the maintained one
for Python, and validates its output against the schema.

The bytes follow from the locks, the base and the version of `roll_runtime` alone: an image that
differs in the sources of `roll_runtime` only has the SBOM that the registry has already. So it does
not name the image's digest. Two things bind it to an image: the `subject` of its artifact, and its
SHA-256 in the provenance, which also names the sources of `roll_runtime`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from images import format_numbers
from images.attest import package_urls
from images.attest.materials import Materials
from images.content import changed_wheels, runtime_wheel
from images.content.kernels import kernel_inputs
from images.image_paths import CUDA_HOME
from images.inputs.lock import base_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.oci.descriptor import canonical_json, digest_of
from images.oci.image import Image

if TYPE_CHECKING:
    from cyclonedx.model import HashType, Property
    from cyclonedx.model.component import Component
    from packageurl import PackageURL


_MAKER = "roll-sglang-images"
_REF = 16
"""Hexadecimal digits of a hash that identify a component inside the document."""

_VERSION = "org.opencontainers.image.version"


def document(image: Image, made_from: Materials) -> bytes:
    """Return the SBOM of an image, as JSON.

    Args:
        image: the image.
        made_from: its locks.
    """
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    whole = Component(
        type=ComponentType.CONTAINER,
        name=image.ref,
        version=image.labels.get(_VERSION),
        purl=package_urls.of_tag(image),
        bom_ref="image",
    )
    maker = Component(type=ComponentType.APPLICATION, name=_MAKER, version=format_numbers.SBOM)
    parts = list(_parts(made_from))
    bom = Bom(
        metadata=BomMetaData(
            # Python 3.10's fromisoformat does not support Z.
            timestamp=datetime.fromisoformat(image.created.replace("Z", "+00:00")),
            component=whole,
            tools=ToolRepository(components=[maker]),
        ),
        components=parts,
    )
    bom.register_dependency(whole, parts)
    made = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6)
    return _numbered(json.loads(made.output_as_string()))


def key(image: Image, made_from: Materials) -> str:
    """Return the digest of all that `document` reads, whose work takes longer than a small layer.

    Of values alone: names in this code may change, and the order of a set is another in each
    process.
    """
    version = image.labels.get(_VERSION)
    read = [
        [format_numbers.SBOM, image.ref, image.created, version, runtime_wheel.version()],
        [made_from.custom_base, made_from.base_repository],
        [_values(item) for item in made_from.lock.distributions],
        [_values(item) for item in made_from.distributions()],
        [[*_values(deb), distro] for deb, distro in made_from.debs()],
        [
            [item.name, changed_wheels.notes(made_from.lock, item)]
            for item in made_from.lock.distributions
        ],
        kernel_inputs.parameters(made_from.kernels),
    ]
    return hashlib.sha256(b"sbom " + canonical_json(read)).hexdigest()


def _values(item: Distribution | Deb) -> Sequence[Any]:
    return dataclasses.astuple(item)


def _numbered(bom: dict[str, Any]) -> bytes:
    """Return the document with a serial number that follows from the rest of it."""
    del bom["serialNumber"]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"sbom:{digest_of(canonical_json(bom))}")
    return canonical_json({**bom, "serialNumber": serial.urn})


def _parts(made_from: Materials) -> Iterator[Component]:
    from cyclonedx.model.component import Component, ComponentType

    system, _, release = base_lock.DISTRO.partition("-")
    if made_from.custom_base:
        purl = package_urls.of_custom_base(made_from.custom_base, made_from.base_repository)
        yield Component(
            type=ComponentType.CONTAINER,
            name=purl.name,
            version=made_from.custom_base,
            purl=purl,
            bom_ref="base",
            hashes=[_sha256(made_from.custom_base.removeprefix("sha256:"))],
        )
    else:
        yield Component(
            type=ComponentType.OPERATING_SYSTEM,
            name=system,
            version=release,
            bom_ref=base_lock.DISTRO,
        )
    installed = set(made_from.lock.distributions)
    for item in made_from.distributions():
        notes = {} if item in installed else {"part": f"/{CUDA_HOME}"}
        if not item.is_wheel:
            notes["built"] = "from its sdist"
        if item in installed:
            notes |= changed_wheels.notes(made_from.lock, item)
            notes |= kernel_inputs.notes(made_from.kernels, item.name)
        purl = package_urls.of_distribution(item)
        yield _locked(item.name, item.version, purl, item.artifact, notes)
    for deb, distro in made_from.debs():
        notes = {} if distro == base_lock.DISTRO else {"part": f"/{CUDA_HOME}"}
        purl = package_urls.of_deb(deb, distro)
        yield _locked(deb.package, deb.version, purl, deb.artifact, notes)
    yield Component(
        type=ComponentType.LIBRARY,
        name="roll-runtime",
        version=runtime_wheel.version(),
        purl=package_urls.of_runtime(),
        bom_ref="roll-runtime",
    )


def _locked(
    name: str, version: str, purl: PackageURL, file: Artifact, notes: dict[str, str]
) -> Component:
    from cyclonedx.model.component import Component

    return Component(
        name=name,
        version=version,
        purl=purl,
        bom_ref=file.sha256[:_REF],  # one package may have two files
        hashes=[_sha256(file.sha256)],
        properties=[_note(key, value) for key, value in {"file": file.filename, **notes}.items()],
    )


def _sha256(value: str) -> HashType:
    from cyclonedx.model import HashAlgorithm, HashType

    return HashType(alg=HashAlgorithm.SHA_256, content=value)


def _note(name: str, value: str) -> Property:
    from cyclonedx.model import Property

    return Property(name=f"roll:{name}", value=value)
