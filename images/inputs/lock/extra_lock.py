"""The locks of Debian packages that flavours add to the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from images.inputs.lock import base_lock, deb
from images.inputs.lock.deb import Deb
from images.util import sha256

# Not `lock --base`: newest packages are for those who ask, since they change every image.
_LOCK = "python build.py lock"


def inputs_digest(packages: Sequence[str], base_debs: Sequence[Deb]) -> str:
    """Return the digest of the lock's inputs, for its seal; hexadecimal SHA-256.

    Args:
        packages: the names that a flavour lists, in any order.
        base_debs: the locked base.
    """
    suites = [[suite.archive, suite.name, suite.component] for suite in base_lock.SUITES]
    base = sorted(package.artifact.sha256 for package in base_debs)
    return sha256.of_json({"base": base, "packages": sorted(packages), "suites": suites})


def read(path: Path, packages: Sequence[str], base_debs: Sequence[Deb]) -> list[Deb]:
    """Return the packages that a flavour adds to the base, as its lock lists them.

    Args:
        path: the lock.
        packages: the names that the flavour lists.
        base_debs: the locked base.

    Raises:
        LockError: the lock is missing, stale or edited by hand.
    """
    return deb.read(path, inputs=inputs_digest(packages, base_debs), remedy=_LOCK)
