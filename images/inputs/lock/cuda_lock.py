"""The locks of the CUDA compilers: the Debian packages and wheels that each consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images.errors import LockError
from images.inputs.compilers import BY_VERSION, CompilerSources
from images.inputs.lock import base_lock, deb, distribution, sealed_text
from images.inputs.lock.deb import DEBIAN, Deb, Suite
from images.inputs.lock.distribution import Distribution
from images.repository import LOCKS
from images.util import sha256

RENEW = base_lock.RENEW

SUITES = (Suite(DEBIAN, "trixie", "non-free"),)
DISTRO = "debian-13"
"""The release of that suite, as package URLs name it."""


@dataclass(frozen=True, slots=True)
class Toolkit:
    """The locked sources of a compiler.

    Attributes:
        version: of CUDA, e.g. `12.4`.
        debs: Debian packages with programs.
        wheels: distributions with headers and programs.
    """

    version: str
    debs: tuple[Deb, ...]
    wheels: tuple[Distribution, ...]

    @property
    def sources(self) -> CompilerSources:
        """The sources of this version, as they are chosen."""
        return BY_VERSION[self.version]

    @property
    def header_wheels(self) -> tuple[Distribution, ...]:
        """Those of `wheels` whose headers are copied, so that none of a target's may be linked."""
        return tuple(wheel for wheel in self.wheels if wheel.name != self.sources.runtime)


def path_of(version: str) -> Path:
    """Return the path of a compiler's lock, which need not exist yet."""
    return LOCKS / f"cuda-{version}.txt"


def inputs_digest(version: str) -> str:
    """Return the digest of the lock's inputs, for its seal; hexadecimal SHA-256."""
    sources = BY_VERSION[version]
    suites = [[suite.archive, suite.name, suite.component] for suite in SUITES]
    return sha256.of_json({"suites": suites, "debs": sources.debs, "wheels": sources.wheels})


def read(version: str, path: Path | None = None) -> Toolkit:
    """Return the sources of a compiler, as its lock lists them.

    Args:
        version: a key of `BY_VERSION`.
        path: the lock; `path_of(version)` by default.

    Raises:
        LockError: the lock is missing, stale or edited by hand.
    """
    path = path or path_of(version)
    sealed = sealed_text.read(path, remedy=RENEW)
    if sealed.inputs != inputs_digest(version):
        raise LockError(f"{path}: lock is stale: the recipe changed since then", remedy=RENEW)
    wheels = [line for line in sealed.lines if " --hash=" in line]
    debs = [line for line in sealed.lines if " --hash=" not in line]
    try:
        return Toolkit(
            version, tuple(deb.parse_line(line) for line in debs), distribution.parse_lines(wheels)
        )
    except ValueError as error:
        raise LockError(f"{path}: {error}", remedy=RENEW) from error
