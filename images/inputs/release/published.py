"""SGLang's releases as the package index has them, by uv and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from packaging.version import Version

from images.errors import FetchError, LockError, UsageError
from images.inputs.fetch import download_cache, index_login
from images.inputs.fetch.downloads import Advance, Downloads
from images.inputs.lock.artifact import Artifact
from images.inputs.matrix import rules
from images.inputs.resolve import uv
from images.inputs.resolve.pylock import Locked

PACKAGE = "sglang"
_UNKNOWN = ("there is no version of", "was not found in the package registry")


@dataclass(frozen=True, slots=True)
class Release:
    """A release with the wheel of it that an image installs.

    Attributes:
        version: as in the index, e.g. `0.5.10.post1`.
        artifact: its wheel.
        url: of the wheel today.
        uploaded: when the wheel was uploaded.
    """

    version: str
    artifact: Artifact
    url: str
    uploaded: datetime


def version_of(requirement: str, *, pre_releases: bool = False) -> str:
    """Return the version of `sglang==VERSION`.

    Raises:
        UsageError: it has another form, or names a pre-release and those are not allowed.
    """
    name, equals, version = requirement.partition("==")
    if name != PACKAGE or not equals or rules.version(version):
        fault = rules.version(version) if equals and name == PACKAGE else None
        raise UsageError(
            fault or f"{requirement!r} names no release of SGLang",
            remedy="python build.py propose sglang==VERSION, or python build.py propose --newest",
        )
    if Version(version).is_prerelease and not pre_releases:
        raise UsageError(
            f"{requirement} is a pre-release",
            remedy=f"propose a final release, or: python build.py propose {requirement} --pre",
        )
    return version


def newest(*, pre_releases: bool = False) -> Release:
    """Return the newest release that is not yanked and has a wheel for the image.

    Raises:
        FetchError: the index is unreachable or has none.
        ToolError: uv cannot be run.
    """
    requirement = f"{PACKAGE}>=0rc0" if pre_releases else PACKAGE
    try:
        return _release(_resolve(requirement))
    except uv.UvError as error:
        raise _unavailable(error) from None


def find(version: str) -> Release:
    """Return a release by its version.

    Raises:
        UsageError: the index has no such release, or it is yanked.
        FetchError: the index is unreachable, or has no wheel of it that fits the image.
        ToolError: uv cannot be run.
    """
    pin = f"{PACKAGE}=={version}"
    try:
        found = _resolve(pin)
    except uv.UvError as error:
        if any(words in error.output for words in _UNKNOWN):
            raise UsageError(
                f"the index has no release {pin}",
                remedy="check the number, or propose the newest: python build.py propose --newest",
            ) from None
        raise _unavailable(error) from None
    try:  # an exact pin alone admits a yanked release
        _resolve(f"{PACKAGE}>={version},<={version}")
    except uv.UvError:
        raise UsageError(
            f"{pin} is yanked: its publisher has withdrawn it",
            remedy="propose the release that replaced it: python build.py propose --newest",
        ) from None
    return _release(found)


def download(release: Release, cache: Path, advance: Advance) -> Path:
    """Download the wheel of a release into the download cache, and return its path.

    Raises:
        FetchError, IntegrityError, StoreError: it is unavailable, differs or cannot be written.
    """
    urls = index_login.with_logins({release.artifact: release.url})
    with Downloads(cache, jobs=1, advance=advance) as downloads:
        if not download_cache.is_cached(release.artifact, cache):
            downloads.start(release.artifact, urls[release.artifact]).result()
    return download_cache.checked(release.artifact, cache)


def _resolve(requirement: str) -> Locked:
    (found,) = uv.resolve(uv.Request([requirement], dependencies=False))
    return found


def _release(found: Locked) -> Release:
    if found.uploaded is None:
        raise LockError(
            f"{found.artifact.filename}: the index states no upload time (PEP 700), from which the "
            "cut-off date follows",
            remedy="use an index that states it, such as PyPI",
        )
    return Release(found.version, found.artifact, found.url, found.uploaded)


def _unavailable(error: uv.UvError) -> FetchError:
    return FetchError(
        f"the index has no wheel of {PACKAGE} for the image: {error.message}",
        remedy=error.particular or "check the network and uv's index settings",
    )
