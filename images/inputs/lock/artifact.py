"""A locked file, known by its hash before it is fetched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Artifact:
    """A wheel, an sdist or a .deb.

    Attributes:
        filename: the file's base name, e.g. `torch-2.8.0-cp311-cp311-manylinux_2_28_x86_64.whl`.
        sha256: lower-case hexadecimal SHA-256 of the whole file.
        size: bytes.
    """

    filename: str
    sha256: str
    size: int
