"""Detection of files that more than one distribution installs, and the rules that settle them.

An upper layer replaces what a lower one has at the same path, and no tool reports it: an installer
leaves the file of the distribution that came last. So all files of a target's distributions are
compared by path, and a difference is an error unless the matrix names the winner (`conflicts:`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from images.inputs.matrix.conflict_rules import THE_IMAGE, Rule

_KINDS = "a file, and a directory"

Hashes = Callable[[Collection[str]], Mapping[str, str]]
"""Returns the SHA-256 of the files at some paths; "" where it is not known."""


@dataclass(frozen=True, slots=True)
class InstalledFiles:
    """The files that one distribution installs.

    Attributes:
        owner: the distribution's name.
        paths: of the files, relative to the image's root.
        hashes: of their content.
    """

    owner: str
    paths: Collection[str]
    hashes: Hashes = field(repr=False, default=lambda paths: dict.fromkeys(paths, ""))


class Conflict(NamedTuple):
    """Two owners whose files cannot both be in the image.

    Attributes:
        path: the upper owner's file, or its file that needs a directory there.
        other: the lower owner's; the same path, unless they differ in case alone or one is a
            directory of the other.
        lower, upper: the owners, by the order of their layers.
        what: why it is a conflict, for messages.
    """

    path: str
    other: str
    lower: str
    upper: str
    what: str


class Tree:
    """All files that are installed in one image.

    Args:
        order: the owners, lowest layer first.
        hidden: programs of the image, by the path where another program would be found first.
    """

    def __init__(self, order: Iterable[str], hidden: Mapping[str, str]) -> None:
        self._rank = {owner: rank for rank, owner in enumerate(order)}
        self._hidden = hidden
        self._installed: dict[str, InstalledFiles] = {}
        self._files: dict[str, str] = {}  # the first owner
        self._others: dict[str, list[str]] = {}
        self._folded: dict[str, str] = {}
        self._directories: dict[str, tuple[str, str]] = {}  # who needs it first, for which file

    def add(self, installed: InstalledFiles) -> list[Conflict]:
        """Add one owner's files; return their conflicts with those that were added before."""
        self._installed[installed.owner] = installed
        shape = _shape(tuple(installed.paths))
        conflicts = self._different(installed, self._shared(installed.owner, shape))
        return [*conflicts, *self._misplaced(installed.owner, shape)]

    def _shared(self, owner: str, shape: _Shape) -> list[str]:
        """Add the files; return those that another owner has as well."""
        shared = [path for path in shape.files if path in self._files]
        for path in shared:
            self._others.setdefault(path, []).append(owner)
        new = shape.files.difference(shared) if shared else shape.files
        self._files.update(dict.fromkeys(new, owner))
        return shared

    def _different(self, installed: InstalledFiles, shared: Collection[str]) -> Iterator[Conflict]:
        """Yield the files that another owner has with other content."""
        ours = installed.hashes(shared) if shared else {}
        rivals: dict[str, list[str]] = {}
        for path in shared:
            for owner in (self._files[path], *self._others[path]):
                if owner != installed.owner:
                    rivals.setdefault(owner, []).append(path)
        for owner, paths in rivals.items():
            theirs = self._installed[owner].hashes(paths)
            for path in paths:
                if not ours[path] or ours[path] != theirs[path]:
                    hidden = self._hidden.get(path)
                    what = f"it hides /{hidden}" if hidden else "other content"
                    yield self._between(path, path, owner, installed.owner, what)

    def _misplaced(self, owner: str, shape: _Shape) -> Iterator[Conflict]:
        """Yield files where others have directories, directories where others have files, and paths
        that differ in case alone: one would replace the other on a case-insensitive disk."""
        for folded, paths in shape.folded.items():
            first = self._folded.setdefault(folded, paths[0])
            for path in paths:
                if first != path and (rival := self._files[first]) != owner:
                    yield self._between(path, first, rival, owner, "the same but for the case")
        for directory, path in shape.directories.items():
            if directory in self._directories:
                continue
            self._directories[directory] = (owner, path)
            if (rival := self._files.get(directory, owner)) != owner:
                yield self._between(path, directory, rival, owner, _KINDS)
        for path in filter(self._directories.__contains__, shape.files):
            rival, inside = self._directories[path]
            if rival != owner:
                yield self._between(path, inside, rival, owner, _KINDS)

    def _between(self, path: str, other: str, theirs: str, ours: str, what: str) -> Conflict:
        if self._rank.get(theirs, -1) <= self._rank.get(ours, -1):
            return Conflict(path, other, theirs, ours, what)
        return Conflict(other, path, ours, theirs, what)


class _Shape(NamedTuple):
    """Some paths as they are compared.

    Attributes:
        files: the paths.
        folded: those that are the same but for the case, by what they have in common.
        directories: those above them, each with the first path that needs it.
    """

    files: frozenset[str]
    folded: Mapping[str, Sequence[str]]
    directories: Mapping[str, str]


@lru_cache(maxsize=2048)  # targets have most of their distributions in common
def _shape(paths: tuple[str, ...]) -> _Shape:
    folded: dict[str, tuple[str, ...]] = {}
    directories: dict[str, str] = {}
    for path in paths:
        common = path.casefold()
        common = path if common == path else common  # one of two equal strings is kept in memory
        folded[common] = (*folded.get(common, ()), path)
        for directory in _directories(path):
            if directory in directories:
                break
            directories[directory] = path
    return _Shape(frozenset(paths), folded, directories)


def _directories(path: str) -> Iterator[str]:
    """Yield the directories that a file needs, deepest first; that of its byte code among them."""
    directory = path.rpartition("/")[0]
    if path.endswith(".py"):
        yield f"{directory}/__pycache__"
    while directory:
        yield directory
        directory = directory.rpartition("/")[0]


def _settles(rule: Rule, conflict: Conflict) -> bool:
    """Return whether a rule names the winner of a conflict."""
    return {rule.winner, rule.over} == {conflict.lower, conflict.upper} and fnmatchcase(
        f"/{conflict.path if rule.over == conflict.upper else conflict.other}", rule.path
    )


def unsettled(found: Iterable[Conflict], rules: Sequence[Rule]) -> list[Conflict]:
    """Return the conflicts whose winner no rule names."""
    return [one for one in found if not any(_settles(rule, one) for rule in rules)]


def unused(found: Sequence[Conflict], rules: Iterable[Rule], seen: Collection[str]) -> list[Rule]:
    """Return the rules that settle nothing, of those whose two distributions were compared.

    Args:
        found: all conflicts of these distributions.
        rules: of the target.
        seen: the names of the distributions that were compared.
    """
    names = {*seen, THE_IMAGE}
    return [
        rule
        for rule in rules
        if {rule.winner, rule.over} <= names and not any(_settles(rule, one) for one in found)
    ]


def lost(rule: Rule, winner: InstalledFiles, loser: InstalledFiles) -> frozenset[str]:
    """Return the paths of the loser that a rule leaves out."""
    theirs = set(winner.paths)
    above = {directory for path in theirs for directory in _directories(path)}
    folded = {path.casefold(): path for path in theirs}
    named = [path for path in loser.paths if fnmatchcase(f"/{path}", rule.path)]
    shared = [path for path in named if path in theirs]
    ours, others = loser.hashes(shared), winner.hashes(shared)
    return frozenset(
        path
        for path in named
        if (path in theirs and (not ours[path] or ours[path] != others[path]))
        or path in above
        or folded.get(path.casefold(), path) != path
        or any(directory in theirs for directory in _directories(path))
    )
