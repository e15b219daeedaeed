"""The records of matrix.yaml: the matrix, and its targets with the defaults merged in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from images.errors import UsageError
from images.inputs.matrix import gpus as gpu_names
from images.inputs.matrix.change_rules import LeftOut, Licensed
from images.inputs.matrix.conflict_rules import Rule
from images.util import suggest


@dataclass(frozen=True, slots=True)
class Pin:
    """A constraint or an override, and the reason for it."""

    requirement: str
    why: str


@dataclass(frozen=True, slots=True)
class Sdist:
    """A distribution of which an sdist is allowed: the builder builds its wheel.

    Attributes:
        name: its normalised name.
        build: the exact requirements of its build, which sees nothing else.
        why: the reason that an sdist is allowed.
        compiled: whether it has C sources; if so, it is built in the base's root file system, by
            the image's own compiler.
    """

    name: str
    build: tuple[str, ...]
    why: str
    compiled: bool = False


class CustomWheel(NamedTuple):
    """A wheel that the package index does not have.

    Attributes:
        filename: its base name (PEP 427).
        sha256: SHA-256 of the file, in lower-case hexadecimal.
        why: the reason that it is needed.
        location: the line of the matrix that names it, e.g. `matrix.yaml:70`.
    """

    filename: str
    sha256: str
    why: str
    location: str


class PackageDate(NamedTuple):
    """The date up to which files of one package are used, instead of the target's own date.

    Attributes:
        name: the package's normalised name.
        date: files published later are ignored (RFC 3339, UTC).
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


class Kernel(NamedTuple):
    """A module of kernels that is compiled when the image is built.

    Attributes:
        module: its name, one of `rules.KERNELS`.
        why: the reason.
        gpus: the compute capabilities that SGLang's own kernels and those in Triton are compiled
            for, of those that the image serves; empty for all of them, as it is for FlashInfer's
            modules.
    """

    module: str
    why: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """The largest size of an image.

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
        id: e.g. `torch280-sglang052`; the name in tags, lock files, test ids and arguments.
        sglang, torch, cuda: versions; `cuda` is `MAJOR.MINOR`.
        toolkit: the CUDA version of the compiler in the image, e.g. `12.4`.
        python: the minor version of Python, e.g. `3.11`.
        platform_tag: uv's name of the image's platform, e.g. `x86_64-manylinux_2_36`.
        requirements: what is installed, with placeholders filled in.
        constraints, overrides: those of the resolution, as in uv.
        sdists: the distributions of which an sdist is allowed, sorted by name.
        misrecorded: the distributions whose wheel may have other bytes than its RECORD states.
        exclude_newer: files published later are ignored (RFC 3339, UTC); the build requirements
            of an sdist are exact, and not subject to it.
        exclude_newer_why: the reason for that date.
        dependencies: False locks the requirements alone, without their dependencies.
        env: environment defaults, in the order of the file.
        budget: the largest size of the image, if there is one; it changes no lock and no image.
        line: the first line of the row in matrix.yaml.
        base: the reference of the custom base, as written there; "" for the Debian base.
        flavour: the flavour's name; "" for a plain target.
        engine: the plain target whose locked versions a flavour keeps; "" for a plain target.
        debian: the Debian packages that the flavour adds.
        package_dates: dates of single packages, sorted by name.
        wheels: the wheels that the package index does not have, sorted by file name.
        conflicts: which distribution wins where two contain the same file; no lock depends on it.
        kernels: what is compiled when the image is built, sorted by module; no lock depends on it.
        gpu_code: the distributions of which only the GPU code for the image's GPUs is installed; no
            lock depends on it.
        debug_sections: the distributions whose libraries are installed without debug sections; no
            lock depends on it.
        left_out: files that are not installed; no lock depends on it.
        gpus: the compute capabilities that the image serves, in order; no lock depends on it.
        narrows: the id of the target whose GPUs it has some of; "" for a target of the matrix.
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
    wheels: tuple[CustomWheel, ...] = ()
    conflicts: tuple[Rule, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    gpu_code: tuple[Licensed, ...] = ()
    debug_sections: tuple[Licensed, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    gpus: tuple[str, ...] = ()
    narrows: str = ""

    @property
    def lock_id(self) -> str:
        """The id of the target of the matrix: the name of the lock."""
        return self.narrows or self.id

    def narrowed(self, gpus: tuple[str, ...]) -> Target:
        """Return the target for some of its GPUs alone; its id says which.

        Raises:
            UsageError: it does not serve them, they are all that it serves, or not in order.
        """
        gpu_names.check_narrowing(self.id, self.gpus, gpus)
        served = EnvDefault(gpu_names.ENV, " ".join(gpus), gpu_names.ENV_WHY)
        return replace(
            self,
            id=f"{self.lock_id}{gpu_names.ends(gpus)}",
            gpus=gpus,
            narrows=self.lock_id,
            env=tuple(served if item.name == gpu_names.ENV else item for item in self.env),
        )

    def environment(self) -> dict[str, str]:
        """Return the environment defaults, by name."""
        return {default.name: default.value for default in self.env}

    def resolve_inputs(self) -> dict[str, Any]:
        """Return all that the lock depends on, JSON-able: no reasons, no environment, no lines.

        The lock of a flavour depends on that of its engine as well.
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
        """Return the inputs of few targets; absent elsewhere, so that other locks stay current."""
        found: dict[str, Any] = {
            "exclude_newer_package": {item.name: item.date for item in self.package_dates},
            "wheels": {wheel.filename: wheel.sha256 for wheel in self.wheels},
        }
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Base:
    """The base of images whose rows name no other: a suite or an image; the other one is "".

    Attributes:
        suite: the Debian suite of the default base.
        image: the reference of a custom base, by its digest.
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
        locks: the directory of the targets' locks, absolute.
        targets: in the order of the file.
    """

    path: Path
    python: str
    base: Base
    toolkits: tuple[str, ...]
    locks: Path
    targets: tuple[Target, ...]

    def target(self, target_id: str) -> Target:
        """Return a target, or one narrowed to some of its GPUs: `torch280-sglang052-sm90`.

        Raises:
            UsageError: there is none of that id; the message suggests the nearest and lists all.
        """
        if target := self.find(target_id):
            return target
        ids = [target.id for target in self.targets]
        hint = suggest.nearest(target_id, ids)
        raise UsageError(
            f"no target {target_id!r} in {self.path.name}{hint}",
            remedy=f"targets: {', '.join(ids)}",
        )

    def find(self, target_id: str) -> Target | None:
        """Return a target, narrowed or not, or None if there is none of that id.

        Raises:
            UsageError: there is a target, and it cannot be narrowed to the GPUs that the id names.
        """
        by_id = {target.id: target for target in self.targets}
        plain, gpus = gpu_names.named(target_id)
        target = by_id.get(plain) if gpus else None
        return target.narrowed(gpus) if target else by_id.get(target_id)

    def lock_path(self, lock_id: str) -> Path:
        """Return the path of the lock of a target, by its `lock_id`; it need not exist yet."""
        return self.locks / f"{lock_id}.txt"

    def debian_lock_path(self, flavour: str) -> Path:
        """Return the path of the lock of a flavour's Debian packages, which need not exist yet."""
        return self.locks / f"debian-{flavour}.txt"

    def debian(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the Debian packages of each flavour in use, by flavour."""
        return {target.flavour: target.debian for target in self.targets if target.debian}
