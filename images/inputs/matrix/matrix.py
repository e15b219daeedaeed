"""matrix.yaml as frozen records: what may be built, checked as a whole before anything is touched.

    matrix = load(Path("matrix.yaml"))
    target = matrix.target("torch280-sglang052")

Every fault of the file is told at once, with its line and, where one is near, the right word.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images.errors import UsageError
from images.inputs.matrix import rows, yaml_nodes
from images.inputs.matrix.target import (
    Budget,
    EnvDefault,
    OwnWheel,
    PackageDate,
    Pin,
    Sdist,
    Target,
)
from images.repository import SGLANG_VERSIONS
from images.util import suggest

__all__ = [
    "Base",
    "Budget",
    "EnvDefault",
    "Matrix",
    "OwnWheel",
    "PackageDate",
    "Pin",
    "Sdist",
    "Target",
    "load",
]


@dataclass(frozen=True, slots=True)
class Base:
    """What images stand on unless their rows say otherwise: one of the two, the other is "".

    Attributes:
        suite: Debian's, of our own base.
        image: an own base, by its digest.
    """

    suite: str
    image: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A whole matrix file.

    Attributes:
        path: the file, absolute.
        python: the minor version of Python in every image.
        base: the root file system.
        toolkits: the CUDA versions of the compilers under /usr/local/cuda.
        locks: the directory of the locks, absolute.
        targets: in the order of the file.
    """

    path: Path
    python: str
    base: Base
    toolkits: tuple[str, ...]
    locks: Path
    targets: tuple[Target, ...]

    def target(self, target_id: str) -> Target:
        """The target of that id.

        Raises:
            UsageError: there is none; the message names the nearest and lists all.
        """
        ids = [target.id for target in self.targets]
        if target_id in ids:
            return self.targets[ids.index(target_id)]
        hint = suggest.nearest(target_id, ids)
        raise UsageError(
            f"no target {target_id!r} in {self.path.name}{hint}",
            remedy=f"targets: {', '.join(ids)}",
        )

    def lock_path(self, target_id: str) -> Path:
        """Where the lock of a target is, or will be."""
        return self.locks / f"{target_id}.txt"

    def debian_lock_path(self, flavour: str) -> Path:
        """Where the lock of a flavour's Debian packages is, or will be."""
        return self.locks / f"debian-{flavour}.txt"

    def debian(self) -> dict[str, tuple[str, ...]]:
        """The names of the Debian packages of each flavour that a target has, by flavour."""
        return {target.flavour: target.debian for target in self.targets if target.debian}


def load(path: Path, runtime_versions: Path | None = None) -> Matrix:
    """Read and check a matrix file.

    Args:
        path: the file.
        runtime_versions: roll_runtime's table of SGLang versions; the repository's by default.

    Raises:
        MatrixError: the file cannot be read or has faults; every one is listed.
    """
    faults = yaml_nodes.Faults(path)
    root = yaml_nodes.read(path, faults)
    here = path.absolute()
    document = rows.Document(root, here, runtime_versions or SGLANG_VERSIONS, faults)
    matrix = Matrix(
        path=here,
        python=document.python,
        base=Base(document.suite, document.base),
        toolkits=tuple(document.toolkits.values()),
        locks=document.locks,
        targets=document.targets,
    )
    faults.stop()
    return matrix
