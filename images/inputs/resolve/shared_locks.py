"""Makes the locks that targets share: of the base, the compilers, and packages beyond the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from images.formats import deb_file
from images.inputs.compilers import BY_VERSION
from images.inputs.fetch import deb_files, download_cache
from images.inputs.fetch.mirror import Mirror
from images.inputs.lock import base_lock, cuda_lock, deb, distribution, extra_lock, sealed_text
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.resolve import apt


def of_base(mirror: Mirror) -> str:
    """Return the text of a fresh lock of the base: the newest packages that the mirror has.

    Raises:
        ToolError: apt, its keyring or the mirror's signed indices are unavailable.
        LockError: the listed packages do not exist or do not fit together.
    """
    found = apt.closure(base_lock.SUITES, base_lock.packages(), mirror)
    return deb.seal(found, base_lock.inputs_digest())


def of_compiler(version: str, mirror: Mirror) -> str:
    """Return the text of a fresh lock of a compiler.

    Raises:
        ToolError: apt, its keyring, the mirror's signed indices or uv are unavailable.
        LockError: the mirror or the package index does not have one of the versions.
    """
    from images.inputs.resolve import uv

    sources = BY_VERSION[version]
    packages = apt.exactly(cuda_lock.SUITES, sources.debs, mirror) if sources.debs else []
    wheels = [
        Distribution(found.name, found.version, found.artifact)
        for found in uv.resolve(uv.Request(sources.wheels, dependencies=False))
    ]
    lines = [*map(deb.line_of, packages), *map(distribution.line_of, wheels)]
    return sealed_text.seal(cuda_lock.inputs_digest(version), sorted(lines))


def of_packages(
    packages: Sequence[str], base_debs: Sequence[Deb], mirror: Mirror, cache: Path
) -> str:
    """Return the text of a fresh lock of packages beyond the base: the newest that fit it.

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
    return deb.seal(found, extra_lock.inputs_digest(packages, base_debs))


def _chosen(
    wanted: Sequence[str], base_debs: Sequence[Deb], mirror: Mirror, cache: Path
) -> list[Deb]:
    deb_files.download(base_debs, mirror, cache)
    installed = [
        deb_file.control(download_cache.checked(item.artifact, cache)) for item in base_debs
    ]
    return apt.additions(base_lock.SUITES, wanted, installed, mirror, remedy=base_lock.RENEW)
