"""Checks of this machine before anything is fetched or made.

Only for a build that makes layers: one with nothing to do needs none of it. Each check is of what
would otherwise end the build later, after much has been fetched.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from images.build.recipe import Recipe
from images.errors import StoreError, ToolError
from images.util.progress import size

_SMALL = 256 << 20
"""Bytes up to which no room is asked for: a disk so full fails by itself, soon."""

_RATIO = 0.8
"""Bytes of layers for each byte that they are made of, at least (0.86 to 0.93 over all targets)."""

_ROOT_FILES = 1 << 30
"""Bytes of a root file system that is being put together, with its packages."""


@dataclass(frozen=True, slots=True)
class Needs:
    """The room that a build needs on disks.

    Attributes:
        cache: bytes to fetch.
        store: bytes of layers, and of intermediate files; at least.
    """

    cache: int
    store: int


def needs(lacking: Sequence[Recipe], to_fetch: int) -> Needs:
    """Return the room that making layers needs on disks.

    Args:
        lacking: the layers.
        to_fetch: bytes that the download cache lacks for them.
    """
    layers = int(sum(recipe.weight for recipe in lacking) * _RATIO)
    roots = _ROOT_FILES if any(recipe.bootstraps for recipe in lacking) else 0
    return Needs(to_fetch, layers + roots)


def check(lacking: Sequence[Recipe], to_fetch: int, cache: Path, store: Path) -> None:
    """Check that layers can be made here.

    Args:
        lacking: the layers.
        to_fetch: bytes that the download cache lacks for them.
        cache: the download cache; it need not exist yet.
        store: the store.

    Raises:
        ToolError: the machine is of another kind, a program is missing, or none may run from the
            cache.
        StoreError: the cache cannot be written, or a disk has too little room.
    """
    check_platform()
    check_programs_may_run(cache)
    if to_fetch:
        check_writable(cache)
    if any(recipe.bootstraps for recipe in lacking):
        from images.content.debian import mmdebstrap

        mmdebstrap.check()
    check_room(needs(lacking, to_fetch), cache, store)


def check_platform() -> None:
    """Check that this machine can run the programs of the image.

    Raises:
        ToolError: it is not Linux on x86-64.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ToolError(
            f"layers are made on Linux on x86-64, by programs of the image; this is "
            f"{platform.system()} on {platform.machine()}",
            remedy="build on such a machine; or --cache-from a cache that has all layers",
        )


def check_programs_may_run(cache: Path) -> None:
    """Check that the image's interpreter can be started from the cache.

    Raises:
        ToolError: the cache is on a file system that is mounted noexec.
    """
    if os.statvfs(_existing(cache)).f_flag & os.ST_NOEXEC:
        raise ToolError(
            f"{cache}: is on a file system that is mounted noexec, and the image's Python runs "
            "from there",
            remedy="choose another directory with --cache DIR or ROLL_IMAGES_CACHE",
        )


def check_cache(to_fetch: int, cache: Path) -> None:
    """Check that there is room for files that are fetched alone.

    Raises:
        StoreError: the cache cannot be written, or its disk has too little room.
    """
    check_writable(cache)
    _check_cache_disk(to_fetch, cache)


def check_writable(cache: Path) -> None:
    """Check that files can be written into the download cache.

    Raises:
        StoreError: they cannot.
    """
    existing = _existing(cache)
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        read_only = os.statvfs(existing).f_flag & os.ST_RDONLY
        reason = "Read-only file system" if read_only else "Permission denied"
        reason = reason if existing.is_dir() else "Not a directory"
        raise StoreError(
            f"{cache}: the download cache cannot be written: {existing}: {reason}",
            remedy="choose a writable directory with --cache DIR or ROLL_IMAGES_CACHE",
        )


def check_room(wanted: Needs, cache: Path, store: Path) -> None:
    """Check that the disks of the cache and the store have room, together where they are one.

    Raises:
        StoreError: one has too little.
    """
    cache_parent, store_parent = _existing(cache), _existing(store)
    if cache_parent.stat().st_dev == store_parent.stat().st_dev:
        _check_disk(
            wanted.cache + wanted.store,
            store_parent,
            f"{store}: the disk that holds the store and the download cache",
            "free some space (python build.py gc), or choose other directories with --store DIR "
            "and --cache DIR",
        )
        return
    _check_cache_disk(wanted.cache, cache)
    _check_disk(
        wanted.store,
        store_parent,
        f"{store}: the disk that holds the store",
        "free some space (python build.py gc), or choose another directory with --store DIR",
    )


def _check_cache_disk(wanted: int, cache: Path) -> None:
    _check_disk(
        wanted,
        _existing(cache),
        f"{cache}: the disk that holds the download cache",
        "free some space, or choose another directory with --cache DIR or ROLL_IMAGES_CACHE",
    )


def _check_disk(wanted: int, existing: Path, name: str, remedy: str) -> None:
    found = os.statvfs(existing)
    free = found.f_bavail * found.f_frsize
    if wanted > _SMALL and free < wanted:
        raise StoreError(
            f"{name} has too little room: {size(free)} are free, and the build needs "
            f"{size(wanted)} or more",
            remedy=remedy,
        )


def _existing(path: Path) -> Path:
    """Return the path, or the nearest parent that exists."""
    path = path.absolute()
    return next(existing for existing in (path, *path.parents) if existing.exists())
