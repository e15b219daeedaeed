"""Debian packages that a flavour of a target adds: a lock and a layer of their own.

The base's layer stays as it is, so that all targets share it. The packages are installed by dpkg
on a base that is made for it (`images.content.debian.rootfs`); the layer is what that changes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from images import format_numbers, image_paths
from images.content.debian import mmdebstrap, rootfs
from images.errors import IntegrityError
from images.formats import deb_file, tar_entries
from images.inputs.fetch import download_cache
from images.inputs.lock import apt, deb, sealed_text
from images.inputs.lock.deb import Deb
from images.inputs.lock.mirror import Mirror
from images.oci.layer.entry import Entry
from images.util import sha256

RENEW = rootfs.RENEW
_LOCK = "python build.py lock"  # newest packages are for those who ask: they change every image


_RECIPE = Path(__file__).with_name("extra_recipe")
_WORKER = Path(__file__).with_name("extra_worker.py")

# In the caller's directory.
_REPOSITORY = "extra.tar"
_CHANGES = "changes.tar"
_GONE = "gone.json"


def inputs_digest(packages: Sequence[str], base_debs: Sequence[Deb]) -> str:
    """The digest of what chooses the packages, for the lock's seal; hexadecimal SHA-256.

    Args:
        packages: the names that a flavour lists, in any order.
        base_debs: the locked base.
    """
    suites = [[suite.archive, suite.name, suite.component] for suite in rootfs.SUITES]
    inputs = {"base": _hashes(base_debs), "packages": sorted(packages), "suites": suites}
    return sealed_text.digest_of(inputs)


def lock(packages: Sequence[str], base_debs: Sequence[Deb], mirror: Mirror, cache: Path) -> str:
    """The text of a fresh lock: the newest packages that the mirror has and that fit the base.

    Args:
        packages: names; those that the base has already add nothing.
        base_debs: the locked base.
        mirror: where the archives are.
        cache: the download cache. What it lacks of the base is brought: apt has to know what is
            installed, and the mirror's indices no longer list packages that were replaced.

    Raises:
        ToolError: apt, its keyring or the mirror's signed indices cannot be had.
        FetchError, IntegrityError: a package of the base cannot be had.
        LockError: the packages do not exist or do not fit together or do not fit the base.
    """
    present = {package.package for package in base_debs}
    wanted = sorted(set(packages) - present)
    found = _chosen(wanted, base_debs, mirror, cache) if wanted else []
    return deb.seal(found, inputs_digest(packages, base_debs))


def _chosen(
    wanted: Sequence[str], base_debs: Sequence[Deb], mirror: Mirror, cache: Path
) -> list[Deb]:
    deb.download(base_debs, mirror, cache, jobs=6, advance=lambda _: None, renew=RENEW)
    installed = [
        deb_file.control(download_cache.checked(item.artifact, cache)) for item in base_debs
    ]
    return apt.additions(rootfs.SUITES, wanted, installed, mirror, remedy=RENEW)


def locked(path: Path, packages: Sequence[str], base_debs: Sequence[Deb]) -> list[Deb]:
    """The packages that a flavour adds to the base, as its lock lists them.

    Args:
        path: the lock.
        packages: the names that the flavour lists.
        base_debs: the locked base.

    Raises:
        LockError: the lock is missing, stale or edited by hand.
    """
    return deb.read(path, inputs=inputs_digest(packages, base_debs), remedy=_LOCK)


def key(base_debs: Sequence[Deb], debs: Sequence[Deb]) -> str:
    """The digest of all that decides about the layer's bytes; hexadecimal SHA-256.

    Args:
        base_debs: the locked base.
        debs: the locked packages beyond it.
    """
    files = [*sorted(_RECIPE.iterdir()), _WORKER]
    return sealed_text.digest_of(
        {
            "base": rootfs.key(base_debs),
            "debs": _hashes(debs),
            "format": format_numbers.EXTRA_PACKAGES,
            "recipe": {path.name: sha256.of_file(path) for path in files},
        }
    )


def entries(
    base_debs: Sequence[Deb], debs: Sequence[Deb], cache: Path, workdir: Path
) -> Iterator[Entry]:
    """What differs from the base's root file system after the packages are installed in it.

    Sorted, parents first, without device nodes; directories of the base that hold something new are
    among them, as they are.

    Args:
        base_debs: the locked base.
        debs: the locked packages beyond it; all of both are in `cache` already.
        cache: the download cache.
        workdir: a directory for what is made; about 1 GB.

    Raises:
        ToolError, StoreError: as `bootstrap.run`.
        IntegrityError: a cached file is not that of its lock, or the packages remove files of the
            base.
    """
    for package in debs:
        download_cache.checked(package.artifact, cache)
    rootfs.write_repository(debs, cache, workdir / _REPOSITORY)
    rootfs.change(base_debs, cache, workdir, _hooks)
    if gone := json.loads((workdir / _GONE).read_text(encoding="ascii")):
        raise IntegrityError(
            "the packages remove files of the base, which a layer above it cannot do:"
            + "".join(f"\n  {path}" for path in gone),
            remedy="take the package that does so out of the list that names it",
        )
    return tar_entries.entries(workdir / _CHANGES)


def _hooks(place: Path) -> list[str]:
    tidy = (_RECIPE / "tidy.sh").read_text(encoding="utf-8")
    return [
        'mkdir -m 755 "$1/extra"',
        mmdebstrap.writing(_WORKER.read_text(encoding="utf-8"), "extra/worker.py"),
        tidy,
        _worker("before /extra/before.json"),
        *mmdebstrap.bringing(place / _REPOSITORY),
        (rootfs.RECIPE / "install.sh").read_text(encoding="utf-8"),
        (rootfs.RECIPE / "clean.sh").read_text(encoding="utf-8"),
        tidy,
        _worker(f"after /extra/before.json /extra/{_CHANGES} /extra/{_GONE}"),
        *(f"download /extra/{name} {shlex.quote(str(place / name))}" for name in (_CHANGES, _GONE)),
    ]


def _worker(arguments: str) -> str:
    """A hook that runs the worker by the image's Python, which leaves no byte code of its own."""
    inside = 'env -i PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 chroot "$1"'
    return f"{inside} /usr/bin/python{image_paths.PYTHON} -I -S -B /extra/worker.py {arguments}"


def _hashes(debs: Sequence[Deb]) -> list[str]:
    return sorted(package.artifact.sha256 for package in debs)
