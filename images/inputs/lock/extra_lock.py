"""The locks of Debian packages that flavours add to the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from images.formats import deb_file
from images.inputs.fetch import download_cache
from images.inputs.lock import apt, base_lock, deb, sealed_text
from images.inputs.lock.deb import Deb
from images.inputs.lock.mirror import Mirror

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
    return sealed_text.digest_of({"base": base, "packages": sorted(packages), "suites": suites})


def resolve(packages: Sequence[str], base_debs: Sequence[Deb], mirror: Mirror, cache: Path) -> str:
    """Return the text of a fresh lock: the mirror's newest packages that fit the base.

    Args:
        packages: names; those that the base has already add nothing.
        base_debs: the locked base.
        mirror: where the archives are.
        cache: the download cache. Packages of the base that it lacks are downloaded: apt has to
            know what is installed, and the mirror's indices no longer list packages that were
            replaced.

    Raises:
        ToolError: apt, its keyring or the mirror's signed indices are unavailable.
        FetchError, IntegrityError: a package of the base is unavailable.
        LockError: the packages do not exist or do not fit together or do not fit the base.
    """
    present = {package.package for package in base_debs}
    wanted = sorted(set(packages) - present)
    found = _chosen(wanted, base_debs, mirror, cache) if wanted else []
    return deb.seal(found, inputs_digest(packages, base_debs))


def _chosen(
    wanted: Sequence[str], base_debs: Sequence[Deb], mirror: Mirror, cache: Path
) -> list[Deb]:
    renew = base_lock.RENEW
    deb.download(base_debs, mirror, cache, jobs=6, advance=lambda _: None, renew=renew)
    installed = [
        deb_file.control(download_cache.checked(item.artifact, cache)) for item in base_debs
    ]
    return apt.additions(base_lock.SUITES, wanted, installed, mirror, remedy=renew)


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
