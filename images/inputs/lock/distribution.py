"""Locked distributions, and the lines of locks that list them.

A line is one that pip and uv can read in a requirements file:

    torch==2.8.0 --hash=sha256:<hex>  # torch-2.8.0-cp311-cp311-manylinux_2_28_x86_64.whl 888063640

It names no index, so the same lock works with any mirror.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from images.inputs.lock.artifact import Artifact

_LINE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})"
    r"  # (?P<filename>[^\s/]+) (?P<size>\d+)"
)
_CUDA_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")


@dataclass(frozen=True, slots=True, order=True)
class Distribution:
    """A locked distribution: a wheel, or an sdist that the builder makes a wheel of.

    Attributes:
        name: normalised (PEP 503).
        version: PEP 440.
        artifact: the file.
        custom: of a custom wheel, where the matrix names it, e.g. `matrix.yaml:70`; else "".
    """

    name: str
    version: str
    artifact: Artifact
    custom: str = ""

    @property
    def is_wheel(self) -> bool:
        """Whether the locked file is a wheel."""
        return self.artifact.filename.endswith(".whl")

    @property
    def pin(self) -> str:
        """The exact requirement, `name==version`."""
        return f"{self.name}=={self.version}"

    @property
    def is_cuda_runtime(self) -> bool:
        """Whether it is NVIDIA's CUDA runtime, whose version is that of CUDA.

        Up to CUDA 12 the major version is part of the name.
        """
        return _CUDA_RUNTIME.fullmatch(self.name) is not None


def line_of(distribution: Distribution) -> str:
    """Return the line of a lock for a distribution."""
    file = distribution.artifact
    return f"{distribution.pin} --hash=sha256:{file.sha256}  # {file.filename} {file.size}"


def parse_lines(lines: Iterable[str]) -> tuple[Distribution, ...]:
    """Return the distributions of lines of a lock.

    Raises:
        ValueError: a line has another form.
    """
    found = []
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not a locked distribution: {line}")
        file = Artifact(match["filename"], match["sha256"], int(match["size"]))
        found.append(Distribution(match["name"], match["version"], file))
    return tuple(found)
