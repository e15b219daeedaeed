"""The titles of layers: made here from what a layer is, and parsed here when an image is read back.

Titles are part of manifests, so their texts stay as they are.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple

_COMPILER = "CUDA compiler "
_VENV = "virtual environment of "
_BUCKET = "small distributions "
_ADDED_DEBS = "Debian packages of "
_DISTRIBUTION = re.compile(r"(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*) (?P<version>[0-9]\S*)")


class Kind(Enum):
    """The kinds of layers."""

    DEBIAN = auto()
    """The Debian base."""
    VENV = auto()
    """The virtual environment on a custom base."""
    COMPILER = auto()
    """The CUDA compiler."""
    LINKS = auto()
    """Links to the CUDA libraries."""
    DISTRIBUTION = auto()
    """One distribution."""
    BUCKET = auto()
    """Several small distributions."""
    ADDED_DEBS = auto()
    """The Debian packages of a flavour."""
    LOGIN = auto()
    """The environment of logins."""
    KERNELS = auto()
    """Kernels that are compiled when the image is built."""
    RUNTIME = auto()
    """`roll_runtime`."""
    OTHER = auto()
    """A layer of a custom base, or of another version of the builder."""


class LayerName(NamedTuple):
    """What a layer is, apart from its bytes.

    Attributes:
        kind: the kind of layer.
        name: which one of its kind: a distribution's name, the number of a bucket, a flavour, the
            path of a Python; of another layer its whole title.
        version: of the distribution or the compiler; "" for other kinds.
    """

    kind: Kind
    name: str = ""
    version: str = ""

    @property
    def title(self) -> str:
        """The layer's title."""
        fixed = _FIXED.get(self.kind)
        if fixed is not None:
            return fixed
        if self.kind is Kind.COMPILER:
            return _COMPILER + self.version
        if self.kind is Kind.DISTRIBUTION:
            return f"{self.name} {self.version}"
        return _PREFIXES.get(self.kind, "") + self.name

    @property
    def any_version(self) -> LayerName:
        """The same layer whatever its version."""
        return self._replace(version="")


DEBIAN = LayerName(Kind.DEBIAN)
LINKS = LayerName(Kind.LINKS)
LOGIN = LayerName(Kind.LOGIN)
KERNELS = LayerName(Kind.KERNELS)
RUNTIME = LayerName(Kind.RUNTIME)

_FIXED = {
    Kind.DEBIAN: "Debian bookworm",
    Kind.LINKS: "CUDA links",
    Kind.LOGIN: "environment of logins",
    Kind.KERNELS: "compiled kernels",
    Kind.RUNTIME: "roll_runtime",
}
_PREFIXES = {Kind.VENV: _VENV, Kind.BUCKET: _BUCKET, Kind.ADDED_DEBS: _ADDED_DEBS}


def compiler(version: str) -> LayerName:
    """Return the name of the layer of a CUDA compiler."""
    return LayerName(Kind.COMPILER, version=version)


def venv(python: str) -> LayerName:
    """Return the name of the layer of the virtual environment of a custom base's Python."""
    return LayerName(Kind.VENV, python)


def distribution(name: str, version: str) -> LayerName:
    """Return the name of the layer of one distribution."""
    return LayerName(Kind.DISTRIBUTION, name, version)


def bucket(number: int, count: int, flavour: str = "") -> LayerName:
    """Return the name of the layer of a bucket of small distributions.

    Args:
        number: from 1.
        count: how many buckets there are.
        flavour: that the distributions are of; "" for those of the engine.
    """
    of_flavour = f"of {flavour} " if flavour else ""
    return LayerName(Kind.BUCKET, f"{of_flavour}{number}/{count}")


def added_debs(flavour: str) -> LayerName:
    """Return the name of the layer of the Debian packages that a flavour adds."""
    return LayerName(Kind.ADDED_DEBS, flavour)


def parse(title: str) -> LayerName:
    """Return what the layer of a title is; the title of the result is the same text."""
    for kind, text in _FIXED.items():
        if title == text:
            return LayerName(kind)
    for kind, prefix in _PREFIXES.items():
        if title.startswith(prefix):
            return LayerName(kind, title.removeprefix(prefix))
    if title.startswith(_COMPILER):
        return compiler(title.removeprefix(_COMPILER))
    if found := _DISTRIBUTION.fullmatch(title):
        return distribution(found["name"], found["version"])
    return LayerName(Kind.OTHER, title)
