"""Fetching locked Debian packages from a mirror."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from images.errors import FetchError
from images.inputs.fetch import download_cache
from images.inputs.fetch.downloads import CONNECTIONS, Downloads
from images.inputs.fetch.mirror import Mirror
from images.inputs.lock import base_lock
from images.inputs.lock.deb import Deb


def download(debs: Sequence[Deb], mirror: Mirror, cache: Path) -> None:
    """Download packages into the cache, unless it has them.

    Raises:
        FetchError: names every package that is unavailable, and the ways out.
        IntegrityError: a file arrived with another hash.
        StoreError: the cache cannot be written.
    """
    failed: list[tuple[Deb, FetchError]] = []
    with Downloads(cache, jobs=CONNECTIONS, advance=lambda _: None) as downloads:
        started = [
            (deb, downloads.start(deb.artifact, url(deb, mirror)))
            for deb in debs
            if not download_cache.is_cached(deb.artifact, cache)
        ]
        for deb, future in started:
            try:
                future.result()
            except FetchError as error:
                failed.append((deb, error))
    if failed:
        raise unavailable(failed, cache)


def url(deb: Deb, mirror: Mirror) -> str:
    """Return where the mirror has (or had) the package.

    A version may contain characters such as `~`, which stay as they are.
    """
    return f"{mirror.root(deb.archive)}/{quote(deb.path, safe='/+~:')}"


def unavailable(failed: Sequence[tuple[Deb, FetchError]], cache: Path) -> FetchError:
    """Return one error that names each package, why it is unavailable, and the ways out."""
    reasons = "".join(f"\n  {deb}: {error.message}" for deb, error in failed)
    return FetchError(
        f"{len(failed)} locked Debian packages are unavailable:{reasons}",
        remedy="if the mirror dropped them for newer versions, either\n"
        f"  renew the lock: {base_lock.RENEW}\n"
        "  or name a mirror that still has them, such as a snapshot archive: --debian-mirror URL\n"
        f"  or restore the download cache of an earlier build: {cache}",
    )
