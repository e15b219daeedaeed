"""The locked files that builds need, and the errors for those that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

from images.errors import FetchError
from images.inputs.fetch import deb_files, download_cache
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution

Arriving = dict[Artifact, Future[Path]]
"""Downloads under way, by the file."""

_LONGEST_LIST = 20


@dataclass(frozen=True, slots=True)
class NeededFiles:
    """Locked files, by their source.

    Attributes:
        distributions: those of the package index.
        debs: those of the Debian mirror.
        base: those of a custom base, which `images.content.custom_base.base_image` downloads before
            all others.
    """

    distributions: Mapping[Artifact, Distribution]
    debs: Mapping[Artifact, Deb]
    base: tuple[Artifact, ...] = ()

    @property
    def artifacts(self) -> list[Artifact]:
        """All files, without repetition: Debian packages first, then largest first.

        Layers of large files take longest, and all other layers need the base.
        """
        every = {**self.debs, **self.distributions}
        ordered = sorted(every, key=lambda file: (file not in self.debs, -file.size, file.filename))
        return [*self.base, *ordered]

    @property
    def size(self) -> int:
        """The total size, in bytes."""
        return sum(file.size for file in self.artifacts)

    def only(self, chosen: Iterable[Artifact]) -> NeededFiles:
        """Return those of the files that are among the chosen ones."""
        wanted = set(chosen)
        return NeededFiles(
            {file: item for file, item in self.distributions.items() if file in wanted},
            {file: item for file, item in self.debs.items() if file in wanted},
            tuple(file for file in self.base if file in wanted),
        )

    def absent(self, cache: Path) -> NeededFiles:
        """Return those of the files that the cache lacks."""
        return self.only(download_cache.missing(self.artifacts, cache))


def not_here(absent: NeededFiles, cache: Path, command: str) -> FetchError:
    """Return the error for files that a build without a network lacks; it names each.

    Args:
        absent: the files.
        cache: the download cache.
        command: the command that fetches them.

    Raises:
        FetchError: custom wheels are among them, which no network has.
    """
    refuse_custom(absent, cache)
    names = [str(item) for item in absent.debs.values()]
    names += [f"{item.pin}: {file.filename}" for file, item in absent.distributions.items()]
    return FetchError(
        f"{cache}: {len(names)} files that the build needs are not in the download cache:"
        f"{listed(names)}",
        remedy=f"where there is a network: {command}",
    )


def refuse_custom(absent: NeededFiles, cache: Path) -> None:
    """Raise an error if custom wheels are missing: the user supplies them, not the index.

    Raises:
        FetchError: they are; it names each.
    """
    custom = [
        f"{item.custom}: {file.filename}"
        for file, item in absent.distributions.items()
        if item.custom
    ]
    if custom:
        from images.inputs.fetch import custom_wheels

        raise custom_wheels.missing(custom, cache)


def listed(names: Iterable[str]) -> str:
    """Return names as lines of a message; if there are very many, the first ones."""
    every = sorted(names)
    shown = every if len(every) <= _LONGEST_LIST else every[:_LONGEST_LIST]
    more = len(every) - len(shown)
    tail = (
        f"\n  … and {more} more: python build.py fetch --check --json --target ID" if more else ""
    )
    return "".join(f"\n  {name}" for name in shown) + tail


def lost(arriving: Arriving, debs: Mapping[Artifact, Deb], cache: Path) -> BaseException | None:
    """Wait for downloads, so that what arrives is kept, and return one error for all that failed.

    Args:
        arriving: the downloads.
        debs: the packages among them, and any others.
        cache: the download cache, for the message.

    Returns:
        None if none failed.
    """
    wait(arriving.values())
    errors = {file: error for file, future in arriving.items() if (error := future.exception())}
    for error in errors.values():
        if not isinstance(
            error, FetchError
        ):  # a full disk or a wrong hash: worse than a missing file
            return error
    gone = {file: error for file, error in errors.items() if isinstance(error, FetchError)}
    if packages := [(debs[file], error) for file, error in gone.items() if file in debs]:
        return deb_files.unavailable(packages, cache)
    return _one(list(gone.values())) if gone else None


def _one(errors: Sequence[FetchError]) -> FetchError:
    if len(errors) == 1:
        return errors[0]
    lines = "".join(f"\n  {message}" for message in sorted(error.message for error in errors))
    return FetchError(f"{len(errors)} files did not arrive:{lines}", remedy=errors[0].remedy)
