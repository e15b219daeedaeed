"""Files of an image that more than one distribution brings: which, and who is to win.

An upper layer replaces what a lower one has at the same path, and no tool reports it: an installer
leaves the file of whoever came last. So everything that a target's distributions bring is compared
by path, and a difference is an error unless the matrix names the winner (`conflicts:`).
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
"""Gives the SHA-256 of the files at some paths; "" where it is not known."""


@dataclass(frozen=True, slots=True)
class InstalledFiles:
    """The files that one distribution brings.

    Attributes:
        owner: its name.
        paths: of its files, relative to the image's root.
        hashes: of their content.
    """

    owner: str
    paths: Collection[str]
    hashes: Hashes = field(repr=False, default=lambda paths: dict.fromkeys(paths, ""))


class Conflict(NamedTuple):
    """Two owners whose files cannot both be in the image.

    Attributes:
        path: what the upper one brings: a file, or the file that needs a directory there.
        other: what the lower one brings; the same path, unless they differ in case alone or one
            is a directory of the other.
        lower, upper: the owners, by the order of their layers.
        what: why it is a conflict, for people.
    """

    path: str
    other: str
    lower: str
    upper: str
    what: str


class Tree:
    """Everything that is brought into one image.

    Args:
        order: the owners, lowest layer first.
        hidden: programs of the image, by the path where another one would be found before them.
    """

    def __init__(self, order: Iterable[str], hidden: Mapping[str, str]) -> None:
        self._rank = {owner: rank for rank, owner in enumerate(order)}
        self._hidden = hidden
        self._brought: dict[str, InstalledFiles] = {}
        self._files: dict[str, str] = {}  # who brings it first
        self._others: dict[str, list[str]] = {}
        self._folded: dict[str, str] = {}
        self._directories: dict[str, tuple[str, str]] = {}  # who needs it first, and for which file

    def add(self, brought: InstalledFiles) -> list[Conflict]:
        """Take what one owner brings; gives its conflicts with those who came before."""
        self._brought[brought.owner] = brought
        shape = _shape(tuple(brought.paths))
        conflicts = self._different(brought, self._shared(brought.owner, shape))
        return [*conflicts, *self._misplaced(brought.owner, shape)]

    def _shared(self, owner: str, shape: _Shape) -> list[str]:
        """Take the files; gives those that others bring as well."""
        shared = [path for path in shape.files if path in self._files]
        for path in shared:
            self._others.setdefault(path, []).append(owner)
        new = shape.files.difference(shared) if shared else shape.files
        self._files.update(dict.fromkeys(new, owner))
        return shared

    def _different(self, brought: InstalledFiles, shared: Collection[str]) -> Iterator[Conflict]:
        """Files that others bring as well, with other content."""
        ours = brought.hashes(shared) if shared else {}
        rivals: dict[str, list[str]] = {}
        for path in shared:
            for owner in (self._files[path], *self._others[path]):
                if owner != brought.owner:
                    rivals.setdefault(owner, []).append(path)
        for owner, paths in rivals.items():
            theirs = self._brought[owner].hashes(paths)
            for path in paths:
                if not ours[path] or ours[path] != theirs[path]:
                    hidden = self._hidden.get(path)
                    what = f"it hides /{hidden}" if hidden else "other content"
                    yield self._between(path, path, owner, brought.owner, what)

    def _misplaced(self, owner: str, shape: _Shape) -> Iterator[Conflict]:
        """Files where others have directories, the other way round, and names that differ in case
        alone: one would replace the other on a disk that knows no case."""
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
        directories: that they need, each with the first path that needs it.
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
        common = path if common == path else common  # one string of the two is kept
        folded[common] = (*folded.get(common, ()), path)
        for directory in _directories(path):
            if directory in directories:
                break
            directories[directory] = path
    return _Shape(frozenset(paths), folded, directories)


def _directories(path: str) -> Iterator[str]:
    """The directories that a file needs, deepest first; those of its byte code among them."""
    directory = path.rpartition("/")[0]
    if path.endswith(".py"):
        yield f"{directory}/__pycache__"
    while directory:
        yield directory
        directory = directory.rpartition("/")[0]


def _settles(rule: Rule, conflict: Conflict) -> bool:
    """Whether a rule names the winner of that conflict."""
    return {rule.winner, rule.over} == {conflict.lower, conflict.upper} and fnmatchcase(
        f"/{conflict.path if rule.over == conflict.upper else conflict.other}", rule.path
    )


def unsettled(found: Iterable[Conflict], rules: Sequence[Rule]) -> list[Conflict]:
    """The conflicts whose winner no rule names."""
    return [one for one in found if not any(_settles(rule, one) for rule in rules)]


def unused(found: Sequence[Conflict], rules: Iterable[Rule], seen: Collection[str]) -> list[Rule]:
    """The rules that settle nothing, as far as both of their distributions were compared."""
    names = {*seen, THE_IMAGE}
    return [
        rule
        for rule in rules
        if {rule.winner, rule.over} <= names and not any(_settles(rule, one) for one in found)
    ]


def lost(rule: Rule, winner: InstalledFiles, loser: InstalledFiles) -> frozenset[str]:
    """The paths of the loser that a rule leaves out."""
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
