"""The locks of the CUDA compilers: the Debian packages and wheels that each consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images.errors import LockError
from images.inputs.compilers import BY_VERSION, Sources
from images.inputs.lock import apt, base_lock, deb, distribution, sealed_text
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.mirror import DEBIAN, Mirror
from images.repository import LOCKS

RENEW = base_lock.RENEW

_SUITES = (apt.Suite(DEBIAN, "trixie", "non-free"),)
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
    def sources(self) -> Sources:
        """What this version is put together from."""
        return BY_VERSION[self.version]

    @property
    def header_wheels(self) -> tuple[Distribution, ...]:
        """Those of `wheels` whose headers are copied, so that no target's may be linked."""
        return tuple(wheel for wheel in self.wheels if wheel.name != self.sources.runtime)


def path_of(version: str) -> Path:
    """Return the path of a compiler's lock, which need not exist yet."""
    return LOCKS / f"cuda-{version}.txt"


def inputs_digest(version: str) -> str:
    """Return the digest of the lock's inputs, for its seal; hexadecimal SHA-256."""
    sources = BY_VERSION[version]
    suites = [[suite.archive, suite.name, suite.component] for suite in _SUITES]
    return sealed_text.digest_of({"suites": suites, "debs": sources.debs, "wheels": sources.wheels})


def resolve(version: str, mirror: Mirror) -> str:
    """Return the text of a fresh lock.

    Raises:
        ToolError: apt, its keyring, the mirror's signed indices or uv are unavailable.
        LockError: the mirror or the package index does not have one of the versions.
    """
    from images.inputs.lock import uv

    sources = BY_VERSION[version]
    debs = apt.exactly(_SUITES, sources.debs, mirror) if sources.debs else []
    wheels = [
        Distribution(found.name, found.version, found.artifact)
        for found in uv.resolve(uv.Request(sources.wheels, dependencies=False))
    ]
    lines = [deb.line_of(item) for item in debs] + [distribution.line_of(item) for item in wheels]
    return sealed_text.seal(inputs_digest(version), sorted(lines))


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
