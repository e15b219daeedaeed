"""The files that a wheel installs, from the zip's directory alone, for comparisons.

Content is not read, and hashes (from RECORD) only of the few files that must be compared: a target
has 50,000 files.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path

from images import image_paths
from images.build.conflicts.detection import InstalledFiles
from images.content.python import bytecode
from images.errors import IntegrityError
from images.formats import entry_points, wheel_file, zip_errors
from images.util import limits

_ENTRY_POINTS = ".dist-info/entry_points.txt"


def of(path: Path, owner: str, *, misrecorded: bool) -> InstalledFiles:
    """Return the files that a wheel installs.

    Args:
        path: the wheel.
        owner: the distribution's name.
        misrecorded: whether its RECORD is known to be wrong.

    Raises:
        IntegrityError: it is not a wheel.
    """
    return InstalledFiles(owner, _paths(path), partial(_hashes, path, misrecorded))


@lru_cache(maxsize=2048)  # targets have most of their wheels in common
def _paths(path: Path) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(dict.fromkeys(_listed(path.name, archive)))
    except zip_errors.MALFORMED as error:
        raise IntegrityError(f"{path.name}: not a valid wheel: {error}") from error


def _listed(name: str, archive: zipfile.ZipFile) -> Iterator[str]:
    distribution = name.partition("-")[0]
    members = archive.namelist()
    limits.check_count(name, len(members), limits.FILES, "files")
    for member in members:
        if not member.endswith("/"):
            installed, _ = wheel_file.destination(name, distribution, member)
            if not bytecode.is_code(installed):
                yield installed
        if member.endswith(_ENTRY_POINTS) and member.count("/") == 1:
            # Checked before it is read: no more than this is ever unpacked.
            size = archive.getinfo(member).file_size
            limits.check_count(f"{name}: {member}", size, limits.METADATA, "bytes")
            for script in entry_points.scripts(name, archive.read(member).decode()):
                yield f"{image_paths.BIN}/{script.name}"


def _hashes(path: Path, misrecorded: bool, paths: Collection[str]) -> Mapping[str, str]:
    return _recorded(path, misrecorded, frozenset(paths))


@lru_cache(maxsize=4096)
def _recorded(path: Path, misrecorded: bool, paths: frozenset[str]) -> Mapping[str, str]:
    with wheel_file.opened(path, misrecorded=misrecorded) as wheel:
        return wheel_file.hashes(wheel, paths)
