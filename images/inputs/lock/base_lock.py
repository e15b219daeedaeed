"""The lock of the base: the Debian packages of bookworm that its root file system consists of."""

from __future__ import annotations

from pathlib import Path

from images.inputs.lock import deb
from images.inputs.lock.deb import DEBIAN, SECURITY, Deb, Suite
from images.repository import LOCKS
from images.util import sha256

PATH = LOCKS / "base-bookworm.txt"
RENEW = "python build.py lock --base"

SUITES = (
    Suite(DEBIAN, "bookworm", "main"),
    Suite(DEBIAN, "bookworm-updates", "main"),
    Suite(SECURITY, "bookworm-security", "main"),
)
DISTRO = "debian-12"
"""The release of those suites, as package URLs name it."""

PACKAGES = Path(__file__).with_name("base-packages.txt")
"""The list of packages to install, each with its reason."""


def packages() -> list[str]:
    """Return the names that `PACKAGES` lists, sorted."""
    lines = PACKAGES.read_text(encoding="utf-8").splitlines()
    names = (line.partition("#")[0].strip() for line in lines)
    return sorted(name for name in names if name)


def inputs_digest() -> str:
    """Return the digest of the lock's inputs, for its seal; hexadecimal SHA-256."""
    suites = [[suite.archive, suite.name, suite.component] for suite in SUITES]
    return sha256.of_json({"packages": packages(), "suites": suites})


def read(path: Path = PATH) -> list[Deb]:
    """Return the packages of the base, as its lock lists them.

    Raises:
        LockError: the lock is missing, stale or edited by hand.
    """
    return deb.read(path, inputs=inputs_digest(), remedy=RENEW)
