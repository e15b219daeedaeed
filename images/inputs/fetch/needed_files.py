"""The locked files that builds need: which, and where the index and the mirror have them today."""

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
"""Downloads under way, by what they bring."""

_LONGEST_LIST = 20


@dataclass(frozen=True, slots=True)
class NeededFiles:
    """Locked files, by whom they are asked of.

    Attributes:
        distributions: the package index's.
        debs: the Debian mirror's.
        base: of an own base; `images.content.custom_base.base_image` brings them, before all
            others.
    """

    distributions: Mapping[Artifact, Distribution]
    debs: Mapping[Artifact, Deb]
    base: tuple[Artifact, ...] = ()

    @property
    def artifacts(self) -> list[Artifact]:
        """All files, without repetition: first Debian's, and the heavy ones of each kind first.

        The layers of heavy files take longest, and the base is wanted by all others.
        """
        every = {**self.debs, **self.distributions}
        ordered = sorted(every, key=lambda file: (file not in self.debs, -file.size, file.filename))
        return [*self.base, *ordered]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.artifacts)

    def only(self, chosen: Iterable[Artifact]) -> NeededFiles:
        """Those of the files that are among the chosen ones."""
        wanted = set(chosen)
        return NeededFiles(
            {file: item for file, item in self.distributions.items() if file in wanted},
            {file: item for file, item in self.debs.items() if file in wanted},
            tuple(file for file in self.base if file in wanted),
        )

    def absent(self, cache: Path) -> NeededFiles:
        """Those of the files that the cache does not hold."""
        return self.only(download_cache.missing(self.artifacts, cache))


def not_here(absent: NeededFiles, cache: Path, command: str) -> FetchError:
    """The error for files that a build without a network lacks; each is named.

    Args:
        absent: the files.
        cache: the download cache.
        command: what brings them.

    Raises:
        FetchError: own wheels are among them, which no network brings.
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
    """Own wheels are brought by a person: the index is not asked for them."""
    own = [
        f"{item.own}: {file.filename}" for file, item in absent.distributions.items() if item.own
    ]
    if own:
        from images.inputs.fetch import custom_wheels

        raise custom_wheels.missing(own, cache)


def listed(names: Iterable[str]) -> str:
    """Lines of names for a message; of very many the first ones."""
    every = sorted(names)
    shown = every if len(every) <= _LONGEST_LIST else every[:_LONGEST_LIST]
    more = len(every) - len(shown)
    tail = (
        f"\n  … and {more} more: python build.py fetch --check --json --target ID" if more else ""
    )
    return "".join(f"\n  {name}" for name in shown) + tail


def lost(arriving: Arriving, debs: Mapping[Artifact, Deb], cache: Path) -> BaseException | None:
    """One error of all failed downloads, after the others have ended: what arrives is kept.

    Args:
        arriving: the downloads.
        debs: the packages among them, and any others.
        cache: the download cache, for the message.

    Returns:
        None when none failed.
    """
    wait(arriving.values())
    errors = {what: error for what, future in arriving.items() if (error := future.exception())}
    for error in errors.values():
        if not isinstance(error, FetchError):  # a full disk, a wrong hash: worse than a lost file
            return error
    gone = {what: error for what, error in errors.items() if isinstance(error, FetchError)}
    if packages := [(debs[what], error) for what, error in gone.items() if what in debs]:
        return deb_files.unavailable(packages, cache)
    return _one(list(gone.values())) if gone else None


def _one(errors: Sequence[FetchError]) -> FetchError:
    if len(errors) == 1:
        return errors[0]
    lines = "".join(f"\n  {message}" for message in sorted(error.message for error in errors))
    return FetchError(f"{len(errors)} files did not arrive:{lines}", remedy=errors[0].remedy)
