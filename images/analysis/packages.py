"""Packages in a layer: from its summary, from its name, or by reading it.

A layer of one wheel is named after it, so that only the layers of the base and of small
distributions must ever be read.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import closing

from images import image_paths
from images.analysis.summary import LayerSummary, Package, of_compiler
from images.build.titles import Kind
from images.errors import IntegrityError
from images.oci.descriptor import Blob
from images.oci.store.store import Store

_EMPTY = (Kind.VENV, Kind.LINKS, Kind.LOGIN)
"""Kinds of layers without packages."""

_METADATA = re.compile(
    re.escape(image_paths.SITE_PACKAGES)
    + r"/(?P<name>[^/]+)-(?P<version>[^/-]+)\.dist-info/METADATA"
)
_DPKG_STATUS = "var/lib/dpkg/status"
_DPKG_FILES = re.compile(r"var/lib/dpkg/info/(?P<name>[^/:]+)(:[^/]+)?\.list")
_STANZA = re.compile(r"^(Package|Version): (.+)$", re.MULTILINE)


def packages(layer: LayerSummary, store: Store | None) -> tuple[Package, ...]:
    """Return the packages of a layer.

    Args:
        layer: the layer.
        store: that it is in, if it is made.

    Raises:
        IntegrityError: the layer must be read and is damaged.
    """
    if layer.packages is not None:
        return layer.packages
    kind, name, version = layer.name
    if kind is Kind.COMPILER:
        return (of_compiler(version),)
    if kind is Kind.DISTRIBUTION:
        return (Package("distribution", name, version),)
    if kind in _EMPTY or layer.blob is None or store is None:
        return ()
    return tuple(sorted(_inside(store, layer.blob)))


def _inside(store: Store, blob: Blob) -> Iterator[Package]:
    from images.oci.layer.decompress import unpacked
    from images.oci.layer.read_ahead import ahead
    from images.oci.layer.tar_stream import TarStream

    with closing(ahead(unpacked(store.blobs, blob))) as pieces:
        tar = TarStream(pieces)
        installed: set[str] = set()
        status = b""
        for member in tar.members():
            if found := _METADATA.fullmatch(member.name):
                yield _distribution(found["name"], found["version"])
            elif found := _DPKG_FILES.fullmatch(member.name):
                installed.add(found["name"])
            elif member.name == _DPKG_STATUS and member.type == tarfile.REGTYPE:
                status = b"".join(bytes(piece) for piece in tar.content(member))
        # The status is of the whole image; what a layer installs has its list of files in it.
        every = not installed  # a custom base may lack the lists
        yield from (package for package in _debs(status) if every or package.name in installed)


def _distribution(name: str, version: str) -> Package:
    """Return a distribution as a lock writes it.

    Its directory may have capitals, underscores and another form of the version.
    """
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    try:
        version = str(Version(version))
    except InvalidVersion as error:
        raise IntegrityError(f"{name}: {error}") from error
    return Package("distribution", canonicalize_name(name), version)


def _debs(status: bytes) -> Iterator[Package]:
    """Parse the packages of dpkg's status file: deb-control(5) stanzas."""
    for stanza in status.decode(errors="replace").split("\n\n"):
        fields = dict(_STANZA.findall(stanza))
        if len(fields) == 2:
            yield Package("debian", fields["Package"], fields["Version"])
