"""Fetch all that builds need into the download cache: they then need no network, now or in years.

The index and the mirror drop files; what is locked by hash and kept here builds the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from images.build import preflight
from images.errors import FetchError, IntegrityError
from images.inputs.build_options import FetchOptions
from images.inputs.fetch import download_cache, needed_files
from images.inputs.fetch.downloads import CONNECTIONS, Downloads
from images.inputs.fetch.needed_files import NeededFiles
from images.inputs.lock.artifact import Artifact
from images.inputs.resolve import file_urls
from images.util.progress import Progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state of the files that a build needs, before and after a fetch.

    Attributes:
        cache: the download cache.
        present: were in the cache, intact: their hashes were computed again.
        fetched: were downloaded.
        missing: are not in the cache, or not in full.
        damaged: are in the cache with other bytes than their hashes say.
        error: why files that were to be fetched are missing.
    """

    cache: Path
    present: tuple[Artifact, ...]
    fetched: tuple[Artifact, ...]
    missing: tuple[Artifact, ...]
    damaged: tuple[Artifact, ...]
    error: FetchError | None = None

    @property
    def lacking(self) -> tuple[Artifact, ...]:
        """The files that a build still lacks."""
        return self.missing + self.damaged


def check(wanted: NeededFiles, options: FetchOptions, progress: Progress) -> Outcome:
    """Compare the cache with the files; nothing is fetched. Each is hashed (once in a process).

    Args:
        wanted: the files.
        options: of the fetch.
        progress: reports the stage.
    """
    cache = options.cache
    there = [file for file in wanted.artifacts if download_cache.is_cached(file, cache)]
    with (
        progress.stage("check", sum(file.size for file in there)) as meter,
        ThreadPoolExecutor(options.jobs, thread_name_prefix="check") as pool,
    ):

        def whole(artifact: Artifact) -> bool:
            try:
                download_cache.checked(artifact, cache)
            except (IntegrityError, FetchError):
                return False
            finally:
                meter.advance(artifact.size)
            return True

        good = dict(zip(there, pool.map(whole, there), strict=True))
    return Outcome(
        cache,
        present=tuple(file for file in there if good[file]),
        fetched=(),
        missing=tuple(file for file in wanted.artifacts if file not in good),
        damaged=tuple(file for file in there if not good[file]),
    )


def fetch(wanted: NeededFiles, options: FetchOptions, progress: Progress) -> Outcome:
    """Fetch what the cache lacks; damaged files are fetched again.

    Args:
        wanted: the files.
        options: of the fetch.
        progress: reports the stages.

    Raises:
        IntegrityError: a file arrived with another hash.
        StoreError: the cache cannot be written.
        ToolError: uv or mmdebstrap cannot be run.
    """
    found = check(wanted, options, progress)
    if not found.lacking:
        return found
    try:
        _fetch(wanted.only(found.lacking), found.damaged, options, progress)
        error = None
    except FetchError as failure:
        error = failure
    cache = options.cache
    fetched = tuple(file for file in found.lacking if download_cache.is_cached(file, cache))
    missing = tuple(file for file in found.lacking if file not in set(fetched))
    return Outcome(cache, found.present, fetched, missing, (), error)


def _fetch(
    absent: NeededFiles,
    damaged: tuple[Artifact, ...],
    options: FetchOptions,
    progress: Progress,
) -> None:
    cache = options.cache
    preflight.check_cache(absent.size, cache)
    for artifact in damaged:
        with suppress(FileNotFoundError):
            download_cache.cached(artifact, cache).unlink()
    with progress.timed("index"):
        urls = file_urls.locate(absent, options.mirror, cache)
    with (
        progress.stage("fetch", absent.size) as meter,
        Downloads(cache, jobs=CONNECTIONS, advance=meter.advance) as downloads,
    ):
        arriving = {file: downloads.start(file, urls[file]) for file in absent.artifacts}
        error = needed_files.lost(arriving, absent.debs, cache)
        if error:
            raise error


def failure(outcomes: Mapping[str, Outcome], command: str) -> FetchError | None:
    """Return one error for all that several builds still lack; None if that is nothing.

    Args:
        outcomes: by target.
        command: what fetches it.
    """
    errors = [outcome.error for outcome in outcomes.values() if outcome.error]
    if errors:
        messages = "\n".join(dict.fromkeys(error.message for error in errors))
        return FetchError(messages, remedy=errors[0].remedy)
    lacking = {file: outcome for outcome in outcomes.values() for file in outcome.lacking}
    if not lacking:
        return None
    names = [
        f"{file.filename}{' (damaged)' if file in outcome.damaged else ''}"
        for file, outcome in lacking.items()
    ]
    cache = next(iter(lacking.values())).cache
    return FetchError(
        f"{cache}: {len(names)} files are missing or damaged:{needed_files.listed(names)}",
        remedy=f"where there is a network: {command}",
    )
