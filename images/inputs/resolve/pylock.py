"""Reads the packages of a pylock.toml (PEP 751), as uv writes it, and chooses a file of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from images import image_paths
from images.errors import LockError
from images.inputs import wheel_tags
from images.inputs.lock.artifact import Artifact

_MARKERS = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": f"{image_paths.PYTHON}.0",
    "python_version": image_paths.PYTHON,
    "sys_platform": "linux",
}


@dataclass(frozen=True, slots=True)
class Locked:
    """One file of the index: what is locked of it, and where the index has it now."""

    name: str
    version: str
    artifact: Artifact
    url: str


def applies(marker: str | None) -> bool:
    """Return whether a package with this marker is for the image."""
    return marker is None or Marker(marker).evaluate(dict(_MARKERS))


def files(package: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all files of a package, as pylock.toml describes them."""
    sdist = package.get("sdist")
    return [*package.get("wheels", []), *([sdist] if sdist else [])]


def best(package: dict[str, Any], own: Path | None = None) -> Locked:
    """Return the file that the image installs of a package: the best wheel, or else the sdist.

    Args:
        package: as pylock.toml describes it.
        own: a directory of wheels that are preferred.

    Raises:
        LockError: no file fits, or the index states no size or no SHA-256 of it.
    """
    ranked = sorted(
        (
            (_own_path(file, own) is not None, preference, location(file), file)
            for file in package.get("wheels", [])
            if (preference := wheel_tags.preference(_file_name(file)))
        ),
        key=lambda item: item[:3],
    )
    file = ranked[-1][3] if ranked else package.get("sdist")
    if file is None:
        raise LockError(
            f"{package['name']} {package['version']}: the index has no wheel for "
            f"CPython {image_paths.PYTHON} on {wheel_tags.PLATFORM}, and no sdist"
        )
    sha256, size = file.get("hashes", {}).get("sha256"), file.get("size")
    if path := _own_path(file, own):
        size = path.stat().st_size  # uv states none
    if sha256 is None or size is None:
        raise LockError(
            f"{_file_name(file)}: the index tells no {'size' if sha256 else 'SHA-256'} of it",
            remedy="lock with an index that has the JSON API (PEP 691 and PEP 700), such as "
            "PyPI; any index will do to build from the lock",
        )
    artifact = Artifact(_file_name(file), sha256, size)
    return Locked(canonicalize_name(package["name"]), package["version"], artifact, location(file))


def _own_path(file: dict[str, Any], own: Path | None) -> Path | None:
    """The path of a wheel that is among our own ones; None of the index's."""
    place = urlsplit(location(file))
    path = Path(unquote(place.path))
    return path if place.scheme == "file" and own and path.parent == own else None


def location(file: dict[str, Any]) -> str:
    """Return the URL of a file."""
    return str(file.get("url") or Path(file["path"]).absolute().as_uri())


def _file_name(file: dict[str, Any]) -> str:
    return str(file.get("name") or unquote(urlsplit(location(file)).path).rpartition("/")[2])
