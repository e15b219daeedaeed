"""The packages of a pylock.toml (PEP 751) as uv writes it, and the choice of a file of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from images import image_paths
from images.errors import LockError
from images.inputs import wheel_tags
from images.inputs.lock.artifact import Artifact

MARKERS = {
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
    """A chosen file of the index: its distribution, its hash, its URL today, and its upload time.

    Indexes without PEP 700 state no upload time.
    """

    name: str
    version: str
    artifact: Artifact
    url: str
    uploaded: datetime | None = None


def applies(marker: str | None) -> bool:
    """Return whether a package with this marker is installed in the image."""
    return marker is None or Marker(marker).evaluate(dict(MARKERS))


def files(package: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all files of a package, as pylock.toml describes them."""
    sdist = package.get("sdist")
    return [*package.get("wheels", []), *([sdist] if sdist else [])]


def best(package: dict[str, Any], links: Path | None = None) -> Locked:
    """Return the file that the image installs of a package: the best wheel, or else the sdist.

    Args:
        package: as pylock.toml describes it.
        links: a directory of custom wheels, which are preferred.

    Raises:
        LockError: no file fits, or the index states no size or no SHA-256 of it.
    """
    ranked = sorted(
        (
            (_custom_path(file, links) is not None, preference, location(file), file)
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
    if path := _custom_path(file, links):
        size = path.stat().st_size  # uv writes none
    if sha256 is None or size is None:
        raise LockError(
            f"{_file_name(file)}: the index does not state its {'size' if sha256 else 'SHA-256'}",
            remedy="lock with an index that has the JSON API (PEP 691 and PEP 700), such as "
            "PyPI; any index will do to build from the lock",
        )
    artifact = Artifact(_file_name(file), sha256, size)
    return Locked(
        canonicalize_name(package["name"]),
        package["version"],
        artifact,
        location(file),
        file.get("upload-time"),
    )


def _custom_path(file: dict[str, Any], links: Path | None) -> Path | None:
    """Return the path of a custom wheel, or None for a file of the index."""
    url = urlsplit(location(file))
    path = Path(unquote(url.path))
    return path if url.scheme == "file" and links and path.parent == links else None


def location(file: dict[str, Any]) -> str:
    """Return the URL of a file, which pylock.toml may name by its path."""
    return str(file.get("url") or Path(file["path"]).absolute().as_uri())


def _file_name(file: dict[str, Any]) -> str:
    return str(file.get("name") or unquote(urlsplit(location(file)).path).rpartition("/")[2])
