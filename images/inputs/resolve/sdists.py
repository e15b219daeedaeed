"""Resolves where some distributions have an sdist alone, without running any of them.

uv is told what an sdist requires; which version it takes is known only afterwards. So it is asked
again until what it was told is what it took.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from images.errors import LockError
from images.formats import sdist_metadata
from images.inputs.fetch import download_cache, index_login
from images.inputs.fetch.downloads import CONNECTIONS, Downloads
from images.inputs.resolve import pylock, uv
from images.inputs.resolve.uv_toml import DependencyMetadata

_ROUNDS = 10


def resolve(request: uv.Request, sdists: Collection[str], cache: Path) -> list[pylock.Locked]:
    """As `uv.resolve`; a wheel is taken where one fits, also of what may come as an sdist.

    Args:
        request: what is to be resolved.
        sdists: the distributions that may come as an sdist, by name.
        cache: the download cache, which gets the sdists that are taken.

    Raises:
        LockError: there is no resolution, or what an sdist requires cannot be read from it.
        FetchError, IntegrityError, StoreError: an sdist cannot be had.
        ToolError: uv cannot be run.
    """
    names, metadata = set(sdists), list[DependencyMetadata]()
    for _ in range(_ROUNDS):
        unknown = [DependencyMetadata(name) for name in sorted(names)]
        found = uv.resolve(replace(request, sdists=names, metadata=[*unknown, *metadata]))
        taken = [item for item in found if item.name in names]
        if wheels := {item.name for item in taken if _has_wheel(item, request)}:
            names -= wheels
            continue
        before, metadata = metadata, _metadata(taken, cache)
        if metadata == before:
            return found
    raise LockError(
        f"what the sdists of {', '.join(sorted(names))} require changes with their versions, and "
        "no version was found to stay",
        remedy="pin their versions in matrix.yaml",
    )


def _has_wheel(item: pylock.Locked, request: uv.Request) -> bool:
    """Whether the image can take a wheel of the very version that uv took the sdist of."""
    pin = f"{item.name}=={item.version}"
    try:
        uv.resolve(replace(request, requirements=[pin], constraints=(), dependencies=False))
    except LockError:
        return False
    return True


def _metadata(taken: Sequence[pylock.Locked], cache: Path) -> list[DependencyMetadata]:
    urls = index_login.with_logins({item.artifact: item.url for item in taken})
    with Downloads(cache, jobs=CONNECTIONS, advance=lambda _: None) as downloads:
        arriving = [downloads.start(file, url) for file, url in urls.items()]
        for each in arriving:
            each.result()
    return [
        DependencyMetadata(
            item.name,
            item.version,
            sdist_metadata.requires(download_cache.checked(item.artifact, cache)),
        )
        for item in taken
    ]
