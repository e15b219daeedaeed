"""What a build needs of this machine, asked before anything is fetched or made.

Only a build that makes layers asks: one with nothing to do needs none of it. What is asked is what
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
"""Bytes up to which no room is asked for: a disk so full tells of it by itself, soon."""

_RATIO = 0.8
"""Bytes of layers for each byte that they are made of, at least (0.86 to 0.93 over all targets)."""

_ROOT_FILES = 1 << 30
"""Bytes of a root file system that is being put together, with its packages."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a build will put on disks.

    Attributes:
        cache: bytes to fetch.
        store: bytes of layers, and of what is made on the way to them; at least.
    """

    cache: int
    store: int


def needs(lacking: Sequence[Recipe], to_fetch: int) -> Needs:
    """What making layers will put on disks.

    Args:
        lacking: the layers.
        to_fetch: bytes that the download cache lacks for them.
    """
    layers = int(sum(recipe.weight for recipe in lacking) * _RATIO)
    roots = _ROOT_FILES if any(recipe.bootstraps for recipe in lacking) else 0
    return Needs(to_fetch, layers + roots)


def check(lacking: Sequence[Recipe], to_fetch: int, cache: Path, store: Path) -> None:
    """See that layers can be made here.

    Args:
        lacking: the layers.
        to_fetch: bytes that the download cache lacks for them.
        cache: the download cache; it need not be there yet.
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
    """See that this is a machine whose programs are those of the image.

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
    """See that the image's interpreter can be started from the cache.

    Raises:
        ToolError: the cache lies on a file system that is mounted noexec.
    """
    place = _existing(cache)
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise ToolError(
            f"{cache}: lies on a file system that is mounted noexec, and the image's Python runs "
            "from there",
            remedy="choose another place with --cache DIR or ROLL_IMAGES_CACHE",
        )


def check_cache(to_fetch: int, cache: Path) -> None:
    """See that what is to be fetched alone has a place.

    Raises:
        StoreError: the cache cannot be written, or its disk has too little room.
    """
    check_writable(cache)
    _check_cache_disk(to_fetch, cache)


def check_writable(cache: Path) -> None:
    """See that files can be put into the download cache.

    Raises:
        StoreError: they cannot.
    """
    place = _existing(cache)
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        reason = "Read-only file system" if read_only else "Permission denied"
        reason = reason if place.is_dir() else "Not a directory"
        raise StoreError(
            f"{cache}: the download cache cannot be written: {place}: {reason}",
            remedy="choose a place that you may write with --cache DIR or ROLL_IMAGES_CACHE",
        )


def check_room(wanted: Needs, cache: Path, store: Path) -> None:
    """See that the disks of the cache and the store have room, together where they are one.

    Raises:
        StoreError: one has too little.
    """
    cache_place, store_place = _existing(cache), _existing(store)
    if cache_place.stat().st_dev == store_place.stat().st_dev:
        _check_disk(
            wanted.cache + wanted.store,
            store_place,
            f"{store}: the disk that holds the store and the download cache",
            "free some space (python build.py gc), or choose other places with --store DIR and "
            "--cache DIR",
        )
        return
    _check_cache_disk(wanted.cache, cache)
    _check_disk(
        wanted.store,
        store_place,
        f"{store}: the disk that holds the store",
        "free some space (python build.py gc), or choose another place with --store DIR",
    )


def _check_cache_disk(wanted: int, cache: Path) -> None:
    _check_disk(
        wanted,
        _existing(cache),
        f"{cache}: the disk that holds the download cache",
        "free some space, or choose another place with --cache DIR or ROLL_IMAGES_CACHE",
    )


def _check_disk(wanted: int, place: Path, name: str, remedy: str) -> None:
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    if wanted > _SMALL and free < wanted:
        raise StoreError(
            f"{name} has too little room: {size(free)} are free, and the build needs "
            f"{size(wanted)} or more",
            remedy=remedy,
        )


def _existing(path: Path) -> Path:
    """The path, or the nearest one above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())
