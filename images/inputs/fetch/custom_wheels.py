"""Wheels that the package index does not have: named in the matrix by file and SHA-256.

A person brings them with `--wheels DIR`; from then on the download cache holds them, like any
other locked file.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from images.errors import FetchError, IntegrityError, LockError, StoreError, UsageError
from images.util import sha256

if TYPE_CHECKING:
    from images.inputs.lock.distribution import Distribution
    from images.inputs.matrix.target import OwnWheel, Target


def requirements(target: Target) -> list[str]:
    """What the target's own wheels install: `name==version` of each."""
    from packaging.utils import parse_wheel_filename

    found = (parse_wheel_filename(wheel.filename)[:2] for wheel in target.wheels)
    return [f"{name}=={version}" for name, version in found]


def bring(targets: Iterable[Target], directory: Path, cache: Path) -> None:
    """Copy the targets' own wheels from a directory into the download cache.

    What the cache has is hashed: a damaged file is replaced. One that the directory lacks may be in
    the cache already.

    Raises:
        UsageError: there is no such directory.
        IntegrityError: a file of that name has other bytes, or is not a valid wheel.
        StoreError: the directory cannot be read or the cache cannot be written.
    """
    if not directory.is_dir():
        raise UsageError(
            f"--wheels {directory}: {'not a' if directory.exists() else 'no such'} directory",
            remedy="name the directory that holds the wheels",
        )
    listed = list(targets)
    wheels = {wheel.sha256: wheel for target in listed for wheel in target.wheels}
    for wheel in wheels.values():
        source = directory / wheel.filename
        if source.is_file() and not _is_cached(wheel, cache):
            misrecorded = _name(wheel) in {name for one in listed for name in one.misrecorded}
            _copy(source, wheel, cache, misrecorded)


def _name(wheel: OwnWheel) -> str:
    from packaging.utils import parse_wheel_filename

    return parse_wheel_filename(wheel.filename)[0]


def _is_cached(wheel: OwnWheel, cache: Path) -> bool:
    """Whether the cache has the file, whole."""
    try:
        return sha256.of_file(_place(wheel, cache)) == wheel.sha256
    except OSError:
        return False


def _copy(source: Path, wheel: OwnWheel, cache: Path, misrecorded: bool) -> None:
    _check_file(source, wheel, misrecorded)
    place = _place(wheel, cache)
    draft = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, draft)
        draft.replace(place)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(
            f"{place}: cannot be written: {error}",
            remedy="free some space, or name another cache with --cache" if full else "",
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _check_file(path: Path, wheel: OwnWheel, misrecorded: bool) -> None:
    """Check the hash, and that it is a wheel: the resolver would report a conflict of versions."""
    from images.formats import wheel_file

    try:
        found = sha256.of_file(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
    if found != wheel.sha256:
        raise IntegrityError(
            f"SHA256 mismatch for {path}: expected {wheel.sha256} ({wheel.place}), got {found}",
            remedy=f"bring the file that {wheel.place} names, or write this SHA-256 there and lock "
            "again",
        )
    try:
        with wheel_file.opened(path, misrecorded=misrecorded):
            pass
    except IntegrityError as error:
        remedy = error.remedy or "bring the whole file, with its SHA-256"
        raise IntegrityError(f"{wheel.place}: {error.message}", remedy=remedy) from error


def linked(target: Target, cache: Path, place: Path) -> Path | None:
    """A directory of links to the target's own wheels in the cache, for uv; None of none.

    Raises:
        FetchError: the cache lacks one, or has it damaged.
    """
    absent = [wheel for wheel in target.wheels if not _is_cached(wheel, cache)]
    if absent:
        raise missing([f"{wheel.place}: {wheel.filename}" for wheel in absent], cache)
    for wheel in target.wheels:
        (place / wheel.filename).symlink_to(_place(wheel, cache).absolute())
    return place if target.wheels else None


def missing(places: Sequence[str], cache: Path) -> FetchError:
    """The error of own wheels that the cache lacks; each with the line that names it."""
    lines = "".join(f"\n  {place}" for place in places)
    return FetchError(
        f"{cache}: own wheels are not in the download cache, or damaged there:{lines}",
        remedy="name the directory that holds them, under these file names: --wheels DIR",
    )


def check(target: Target, locked: Iterable[Distribution]) -> None:
    """See that the lock takes each own wheel, and not another file of the same distribution.

    Raises:
        LockError: it does not.
    """
    taken = {item.artifact.sha256 for item in locked}
    if lost := [wheel for wheel in target.wheels if wheel.sha256 not in taken]:
        lines = "".join(f"\n  {wheel.place}: {wheel.filename}" for wheel in lost)
        raise LockError(
            f"{target.id}: the resolution does not take these own wheels:{lines}",
            remedy="see whether their SHA-256 there is the file's, and whether another requirement "
            "names another version of it",
        )


def _place(wheel: OwnWheel, cache: Path) -> Path:
    return cache / wheel.sha256 / wheel.filename
