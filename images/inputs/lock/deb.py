"""Locked Debian packages, and the locks that list them.

A line of a lock: `gcc-12=12.2.0-14+deb12u1 sha256:<hex> <bytes> debian pool/main/…/gcc-12_….deb`.
It names an archive, never a URL: `images.inputs.fetch.mirror` locates that archive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from images.errors import LockError
from images.inputs.lock import sealed_text
from images.inputs.lock.artifact import Artifact

DEBIAN = "debian"
SECURITY = "debian-security"
ARCHIVES = (DEBIAN, SECURITY)

_LINE = re.compile(
    r"(?P<package>[a-z0-9][a-z0-9+.-]*)=(?P<version>\S+) sha256:(?P<sha256>[0-9a-f]{64})"
    r" (?P<size>[0-9]+) (?P<archive>" + "|".join(ARCHIVES) + r") (?P<path>pool/\S+\.deb)"
)


@dataclass(frozen=True, slots=True, order=True)
class Deb:
    """A Debian binary package.

    Attributes:
        package: its name, e.g. `gcc-12`.
        version: Debian's version, e.g. `12.2.0-14+deb12u1`.
        archive: `debian` or `debian-security`.
        path: below the archive's root, e.g. `pool/main/n/numactl/libnuma1_2.0.16-1_amd64.deb`.
        artifact: the file, by its hash.
    """

    package: str
    version: str
    archive: str
    path: str
    artifact: Artifact

    def __str__(self) -> str:
        return f"{self.package}={self.version}"


@dataclass(frozen=True, slots=True)
class Suite:
    """A component of a suite of an archive, e.g. `main` of `bookworm-updates` of `debian`."""

    archive: str
    name: str
    component: str


def line_of(deb: Deb) -> str:
    """Return the line of a lock for a package."""
    artifact = deb.artifact
    return f"{deb} sha256:{artifact.sha256} {artifact.size} {deb.archive} {deb.path}"


def parse_line(line: str) -> Deb:
    """Return the package of a line of a lock.

    Raises:
        ValueError: the line has another form.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"not a line of a lock of Debian packages: {line!r}")
    path = match["path"]
    artifact = Artifact(path.rpartition("/")[2], match["sha256"], int(match["size"]))
    return Deb(match["package"], match["version"], match["archive"], path, artifact)


def seal(debs: Iterable[Deb], inputs: str) -> str:
    """Return the text of a lock that lists packages, sorted.

    Args:
        debs: the packages.
        inputs: the digest of the lock's inputs, in hexadecimal.
    """
    return sealed_text.seal(inputs, [line_of(deb) for deb in sorted(debs)])


def read(path: Path, *, inputs: str, remedy: str) -> list[Deb]:
    """Return the packages of a lock.

    Args:
        path: the lock.
        inputs: the digest of the inputs that it must be made from.
        remedy: the command that renews it, for messages.

    Raises:
        LockError: the lock is missing, stale, or edited by hand.
    """
    sealed = sealed_text.read(path, remedy=remedy)
    if sealed.inputs != inputs:
        raise LockError(f"lock is stale: the recipe changed since {path} was made", remedy=remedy)
    try:
        return [parse_line(line) for line in sealed.lines]
    except ValueError as error:
        raise LockError(f"{path}: {error}", remedy=remedy) from error
