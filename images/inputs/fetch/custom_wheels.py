"""Custom wheels: those that the package index does not have. The matrix names file and SHA-256.

The user supplies them with `--wheels DIR`; from then on they are in the download cache, like any
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
    from images.inputs.matrix.records import CustomWheel, Target


def requirements(target: Target) -> list[str]:
    """Return the requirements that the target's custom wheels satisfy: `name==version` of each."""
    from packaging.utils import parse_wheel_filename

    found = (parse_wheel_filename(wheel.filename)[:2] for wheel in target.wheels)
    return [f"{name}=={version}" for name, version in found]


def add(targets: Iterable[Target], directory: Path, cache: Path) -> None:
    """Copy the targets' custom wheels from a directory into the download cache.

    Damaged files of the cache are replaced. A wheel that the directory lacks may be in the cache
    already.

    Raises:
        UsageError: there is no such directory.
        IntegrityError: a file of that name has other bytes, or is not a valid wheel.
        StoreError: the directory cannot be read or the cache cannot be written.
    """
    if not directory.is_dir():
        raise UsageError(
            f"--wheels {directory}: {'not a' if directory.exists() else 'no such'} directory",
            remedy="name the directory that contains the wheels",
        )
    listed = list(targets)
    wheels = {wheel.sha256: wheel for target in listed for wheel in target.wheels}
    for wheel in wheels.values():
        source = directory / wheel.filename
        if source.is_file() and not _is_cached(wheel, cache):
            misrecorded = _name(wheel) in {name for one in listed for name in one.misrecorded}
            _copy(source, wheel, cache, misrecorded)


def _name(wheel: CustomWheel) -> str:
    from packaging.utils import parse_wheel_filename

    return parse_wheel_filename(wheel.filename)[0]


def _is_cached(wheel: CustomWheel, cache: Path) -> bool:
    """Return whether the cache has the file, undamaged."""
    try:
        return sha256.of_file(_path(wheel, cache)) == wheel.sha256
    except OSError:
        return False


def _copy(source: Path, wheel: CustomWheel, cache: Path, misrecorded: bool) -> None:
    _check_file(source, wheel, misrecorded)
    path = _path(wheel, cache)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, draft)
        draft.replace(path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(
            f"{path}: cannot be written: {error}",
            remedy="free some space, or choose another cache with --cache DIR" if full else "",
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _check_file(path: Path, wheel: CustomWheel, misrecorded: bool) -> None:
    """Check the hash, and that the file is a wheel.

    The resolver would report a conflict of versions instead.
    """
    from images.formats import wheel_file

    try:
        found = sha256.of_file(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
    if found != wheel.sha256:
        raise IntegrityError(
            f"SHA256 mismatch for {path}: expected {wheel.sha256} ({wheel.location}), got {found}",
            remedy=f"supply the file that {wheel.location} names, or write this SHA-256 there and "
            "lock again",
        )
    try:
        with wheel_file.opened(path, misrecorded=misrecorded):
            pass
    except IntegrityError as error:
        remedy = error.remedy or "supply the whole file, with its SHA-256"
        raise IntegrityError(f"{wheel.location}: {error.message}", remedy=remedy) from error


def linked(target: Target, cache: Path, directory: Path) -> Path | None:
    """Fill a directory with links to the target's custom wheels in the cache, for uv.

    Args:
        target: the target.
        cache: the download cache.
        directory: the directory.

    Returns:
        `directory`, or None if the target has no custom wheels.

    Raises:
        FetchError: one is missing from the cache, or damaged there.
    """
    absent = [wheel for wheel in target.wheels if not _is_cached(wheel, cache)]
    if absent:
        raise missing([f"{wheel.location}: {wheel.filename}" for wheel in absent], cache)
    for wheel in target.wheels:
        (directory / wheel.filename).symlink_to(_path(wheel, cache).absolute())
    return directory if target.wheels else None


def missing(names: Sequence[str], cache: Path) -> FetchError:
    """Return the error for custom wheels that the cache lacks.

    Args:
        names: of each, the line that names it and its file name.
        cache: the download cache.
    """
    lines = "".join(f"\n  {name}" for name in names)
    return FetchError(
        f"{cache}: custom wheels are missing from the download cache, or damaged:{lines}",
        remedy="name the directory that contains them, under these file names: --wheels DIR",
    )


def check(target: Target, locked: Iterable[Distribution]) -> None:
    """Check that a resolution takes each custom wheel, not another file of its distribution.

    Raises:
        LockError: it does not.
    """
    taken = {item.artifact.sha256 for item in locked}
    if lost := [wheel for wheel in target.wheels if wheel.sha256 not in taken]:
        lines = "".join(f"\n  {wheel.location}: {wheel.filename}" for wheel in lost)
        raise LockError(
            f"{target.id}: the resolution does not take these custom wheels:{lines}",
            remedy="check that their SHA-256 there is the file's, and that no other requirement "
            "names another version",
        )


def _path(wheel: CustomWheel, cache: Path) -> Path:
    return cache / wheel.sha256 / wheel.filename
