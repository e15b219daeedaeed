"""Resolution where some distributions have only an sdist, without running any of them.

uv needs the requirements of an sdist beforehand, but the version that it chooses is known only
afterwards. So it runs again until the given requirements are those of the chosen versions.
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
    """Resolve as `uv.resolve`; a wheel that fits is preferred to an allowed sdist.

    Args:
        request: the input.
        sdists: names of the distributions of which an sdist is allowed.
        cache: the download cache, to which the chosen sdists are added.

    Raises:
        LockError: there is no resolution, or the requirements of an sdist cannot be read from it.
        FetchError, IntegrityError, StoreError: an sdist is unavailable.
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
        f"the requirements of the sdists of {', '.join(sorted(names))} change with their versions, "
        "and no stable choice of versions was found",
        remedy="pin their versions in matrix.yaml",
    )


def _has_wheel(item: pylock.Locked, request: uv.Request) -> bool:
    """Return whether the version of which uv chose the sdist has a wheel that fits the image."""
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
