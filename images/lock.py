"""A target's lock: the one file that each distribution of its image installs from.

`images/locks/<target>.txt` is a requirements file that pip and uv can read, one line a
distribution:

    torch==2.8.0 --hash=sha256:<hex>  # torch-2.8.0-cp311-cp311-manylinux_2_28_x86_64.whl 888063640

What an sdist's build needs is locked in the same file, in lines that pip and uv take for comments
(`# build setuptools==…`). No index is named, so the same lock works with any mirror. Reading it
needs no network and no uv.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from images import lockfile
from images.artifact import Artifact
from images.errors import LockError

if TYPE_CHECKING:
    from images import uv
    from images.matrix import Matrix, Target

FORMAT = "1"
"""Part of each lock's inputs. Raise it when `lock` would make other lines of the same inputs."""

_LINE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9-]*)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})"
    r"  # (?P<filename>[^\s/]+) (?P<size>\d+)"
)
_BUILD = "# build "
_CUDA_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")


@dataclass(frozen=True, slots=True, order=True)
class Distribution:
    """A locked distribution: a wheel, or an sdist that the builder makes a wheel of.

    Attributes:
        name: normalised (PEP 503).
        version: PEP 440.
        artifact: the file.
    """

    name: str
    version: str
    artifact: Artifact

    @property
    def is_wheel(self) -> bool:
        """Whether the locked file is a wheel."""
        return self.artifact.filename.endswith(".whl")

    @property
    def pin(self) -> str:
        """`name==version`."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class Lock:
    """What a target's lock holds.

    Attributes:
        distributions: what is installed in the image, sorted by name.
        build: what sdists are built with, sorted by name; not in the image for that.
        misrecorded: names of distributions whose RECORD is known to be wrong. The matrix says so;
            the file of a lock does not depend on it.
    """

    distributions: tuple[Distribution, ...]
    build: tuple[Distribution, ...]
    misrecorded: frozenset[str] = frozenset()


def is_cuda_runtime(distribution: Distribution) -> bool:
    """Whether it is NVIDIA's CUDA runtime, whose version is that of CUDA.

    Up to CUDA 12 the major version is part of the name.
    """
    return _CUDA_RUNTIME.fullmatch(distribution.name) is not None


def line_of(distribution: Distribution) -> str:
    """The line of a lock that stands for a distribution."""
    file = distribution.artifact
    return f"{distribution.pin} --hash=sha256:{file.sha256}  # {file.filename} {file.size}"


def parse_lines(lines: Iterable[str]) -> tuple[Distribution, ...]:
    """The distributions that a lock's lines stand for.

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


def inputs_of(target: Target) -> str:
    """The digest of all that a target's lock is made from."""
    return lockfile.digest_of({"format": FORMAT, **target.resolve_inputs()})


def read(matrix: Matrix, target: Target) -> Lock:
    """A target's lock.

    Raises:
        LockError: the lock is missing, stale or was edited by hand; the error names the command
            that mends it.
    """
    path = matrix.lock_path(target.id)
    remedy = f"python build.py lock --target {target.id}"
    sealed = lockfile.read(path, remedy=remedy)
    if sealed.inputs != inputs_of(target):
        raise LockError(
            f"{path}: lock is stale: {matrix.path.name} changed since it was made", remedy=remedy
        )
    build = [line.removeprefix(_BUILD) for line in sealed.lines if line.startswith(_BUILD)]
    installed = [line for line in sealed.lines if not line.startswith(_BUILD)]
    try:
        return Lock(parse_lines(installed), parse_lines(build), target.misrecorded)
    except ValueError as error:
        raise LockError(f"{path}: {error}", remedy=remedy) from error


def make(matrix: Matrix, target: Target) -> bool:
    """Resolve a target and write its lock; gives whether the lock changed.

    Raises:
        LockError: it does not resolve, a distribution has only an sdist that the matrix does not
            allow for, or torch is built for another CUDA than the matrix says.
    """
    from images import uv

    found = uv.resolve(
        target.requirements,
        constraints=[pin.requirement for pin in target.constraints],
        overrides=[pin.requirement for pin in target.overrides],
        exclude_newer=target.exclude_newer,
        dependencies=target.dependencies,
    )
    locked = _distributions(found)
    _check(target, locked)
    built = {item.name for item in locked if not item.is_wheel}
    needs = {pin for sdist in target.sdists if sdist.name in built for pin in sdist.build}
    build = _distributions(uv.resolve(sorted(needs), dependencies=False) if needs else [])
    lines = [line_of(item) for item in locked] + [_BUILD + line_of(item) for item in build]
    text = lockfile.seal(inputs_of(target), lines)
    path = matrix.lock_path(target.id)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    lockfile.write(path, text)
    return True


def _distributions(found: list[uv.Locked]) -> tuple[Distribution, ...]:
    return tuple(Distribution(item.name, item.version, item.artifact) for item in found)


def _check(target: Target, locked: tuple[Distribution, ...]) -> None:
    allowed = {sdist.name for sdist in target.sdists}
    if surprises := [item.pin for item in locked if not item.is_wheel and item.name not in allowed]:
        raise LockError(
            f"{target.id}: no wheel fits the image for {', '.join(surprises)}",
            remedy="pin a version that has one, or list the distribution under `sdists:` in "
            "matrix.yaml with what its build needs",
        )
    for item in locked:
        if is_cuda_runtime(item):
            built_for = ".".join(item.version.split(".")[:2])
            if built_for != target.cuda:
                raise LockError(
                    f"{target.id}: torch {target.torch} is built for CUDA {built_for} "
                    f"({item.pin}), not for {target.cuda}",
                    remedy=f"write `cuda: {built_for!r}` in matrix.yaml, or another torch",
                )
