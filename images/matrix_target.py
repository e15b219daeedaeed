"""The records of one target: what a row of matrix.yaml says once the defaults are joined in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
    """

    name: str
    build: tuple[str, ...]
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

    def resolve_inputs(self) -> dict[str, Any]:
        """Exactly what the lock depends on, JSON-able: no reasons, no environment, no lines."""
        return {
            "python": self.python,
            "platform": self.platform_tag,
            "requirements": list(self.requirements),
            "constraints": [pin.requirement for pin in self.constraints],
            "overrides": [pin.requirement for pin in self.overrides],
            "exclude_newer": self.exclude_newer,
            "sdists": {sdist.name: list(sdist.build) for sdist in self.sdists},
            "dependencies": self.dependencies,
        }
