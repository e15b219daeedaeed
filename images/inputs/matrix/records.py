"""The records of one target: what a row of matrix.yaml says once the defaults are joined in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from images.errors import UsageError
from images.inputs.matrix.conflict_rules import Rule
from images.util import suggest


@dataclass(frozen=True, slots=True)
class Pin:
    """A constraint or an override, and why it is there."""

    requirement: str
    why: str


@dataclass(frozen=True, slots=True)
class Sdist:
    """A package that has no wheel: it is built here, without isolation.

    Attributes:
        name: the package's normalised name.
        build: the exact requirements that its build sees, and nothing else.
        why: the reason that an sdist is accepted.
        compiled: whether it has C sources: it is then built in the base's root file system, by the
            image's own compiler.
    """

    name: str
    build: tuple[str, ...]
    why: str
    compiled: bool = False


class OwnWheel(NamedTuple):
    """A wheel that the package index does not have.

    Attributes:
        filename: its base name (PEP 427).
        sha256: lower-case hexadecimal SHA-256 of the file.
        why: the reason that it is needed.
        place: where the matrix names it, e.g. `matrix.yaml:70`.
    """

    filename: str
    sha256: str
    why: str
    place: str


class PackageDate(NamedTuple):
    """The date up to which files of one package count, instead of the target's own.

    Attributes:
        name: the package's normalised name.
        date: files published later do not exist (RFC 3339, UTC).
        why: the reason.
    """

    name: str
    date: str
    why: str


@dataclass(frozen=True, slots=True)
class EnvDefault:
    """An environment variable of the image, which `docker run -e` may override."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Budget:
    """How large an image may be.

    Attributes:
        size: bytes of all layers, compressed by zstd.
        why: the reason.
    """

    size: int
    why: str


@dataclass(frozen=True, slots=True)
class Target:
    """One image to build.

    Attributes:
        id: e.g. `torch280-sglang052`; tag, lock file, test id and argument at once.
        sglang, torch, cuda: versions; `cuda` is `MAJOR.MINOR`.
        toolkit: the CUDA version of the compiler in the image, e.g. `12.4`.
        python: the minor version of Python, e.g. `3.11`.
        platform_tag: uv's name for what the image can run, e.g. `x86_64-manylinux_2_36`.
        requirements: what is installed, placeholders filled in.
        constraints, overrides: how the resolution is narrowed and bent.
        sdists: the packages that may come as an sdist, sorted by name.
        misrecorded: the packages whose wheel may hold other bytes than its own RECORD says.
        exclude_newer: files published later do not exist (RFC 3339, UTC); the build requirements
            of an sdist are exact, and not subject to it.
        exclude_newer_why: the reason for that date.
        dependencies: False locks the requirements alone, without what they depend on.
        env: environment defaults, in the order of the file.
        budget: what the image may weigh, if the matrix says; it changes no lock and no image.
        line: where the row begins in matrix.yaml.
        base: the own base that it stands on, as it is written there; "" for our Debian base.
        flavour: the flavour's name; "" for a plain target.
        engine: the plain target whose locked versions a flavour keeps; "" for a plain target.
        debian: the Debian packages that the flavour adds.
        package_dates: dates of single packages, sorted by name.
        wheels: the wheels that the package index does not have, sorted by file name.
        conflicts: who wins where two distributions bring one file; no lock depends on it.
    """

    id: str
    sglang: str
    torch: str
    cuda: str
    toolkit: str
    python: str
    platform_tag: str
    requirements: tuple[str, ...]
    constraints: tuple[Pin, ...]
    overrides: tuple[Pin, ...]
    sdists: tuple[Sdist, ...]
    misrecorded: frozenset[str]
    exclude_newer: str
    exclude_newer_why: str
    dependencies: bool
    env: tuple[EnvDefault, ...]
    budget: Budget | None
    line: int
    base: str = ""
    flavour: str = ""
    engine: str = ""
    debian: tuple[str, ...] = ()
    package_dates: tuple[PackageDate, ...] = ()
    wheels: tuple[OwnWheel, ...] = ()
    conflicts: tuple[Rule, ...] = ()

    def environment(self) -> dict[str, str]:
        """The environment defaults, by name."""
        return {default.name: default.value for default in self.env}

    def resolve_inputs(self) -> dict[str, Any]:
        """Exactly what the lock depends on, JSON-able: no reasons, no environment, no lines.

        Of a flavour, the lock depends on that of its engine as well.
        """
        return {
            "python": self.python,
            "platform": self.platform_tag,
            "requirements": list(self.requirements),
            "constraints": [pin.requirement for pin in self.constraints],
            "overrides": [pin.requirement for pin in self.overrides],
            "exclude_newer": self.exclude_newer,
            "sdists": {sdist.name: list(sdist.build) for sdist in self.sdists},
            "dependencies": self.dependencies,
            **self._special_inputs(),
        }

    def _special_inputs(self) -> dict[str, Any]:
        """What few targets have; left out elsewhere, so that the locks of the others stay."""
        found: dict[str, Any] = {
            "exclude_newer_package": {item.name: item.date for item in self.package_dates},
            "wheels": {wheel.filename: wheel.sha256 for wheel in self.wheels},
        }
        return {name: value for name, value in found.items() if value}


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
