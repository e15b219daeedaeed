"""The layers of a target's distributions, and that of the links to the libraries among them.

What a layer depends on is known from the locks alone; `images.formats.wheel_file` and what reads
wheels are imported when a layer is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from images import format_numbers
from images.build import grouping, titles
from images.build.conflicts import left_out
from images.build.conflicts.left_out import Loss
from images.build.recipe import SMALL, Keys, LayerContext, Recipe, weight_of
from images.content import changed_wheels
from images.content.cuda import links
from images.content.python import bytecode
from images.errors import ConflictError
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.oci.layer.entry import Entry

if TYPE_CHECKING:
    from images.build.conflicts.detection import InstalledFiles
    from images.formats.wheel_changes import Changes


class WheelLayer(NamedTuple):
    """A layer of distributions.

    Attributes:
        group: the distributions.
        lock: the target's lock.
        base_debs: the base's lock.
        toolkit: the CUDA version of the compiler.
        losses: the rules that leave out files of the distributions.
    """

    group: grouping.Group
    lock: Lock
    base_debs: Sequence[Deb]
    toolkit: str
    losses: Sequence[Loss] = ()

    @property
    def is_compiled(self) -> bool:
        """Whether something in it is compiled by the image's own compiler."""
        return any(item.name in self.lock.compiled for item in self._read)

    @property
    def needs(self) -> tuple[Distribution, ...]:
        """The locked files that it is made of."""
        return (*self._read, *(self.lock.build if _has_sdist(self._read) else ()))

    @property
    def _read(self) -> tuple[Distribution, ...]:
        """The distributions whose wheels are read: its own, and those that win over one of them."""
        if not self.losses:
            return self.group.distributions
        winners = [loss.winner for loss in self.losses if loss.winner]
        return tuple(dict.fromkeys((*self.group.distributions, *winners)))

    def recipe(self, keys: Keys) -> Recipe:
        """Return its recipe."""
        return Recipe(
            self.group.name,
            keys.of(self.inputs()),
            self.needs,
            tuple(self.base_debs) if self.is_compiled else (),
            self.entries,
            weight_of(self.needs),
            installed=self.group.distributions,
        )

    def inputs(self) -> dict[str, Any]:
        """Return what decides about its bytes, but for what all layers share."""
        items = self.group.distributions
        found: dict[str, Any] = {"format": format_numbers.WHEELS, "wheels": _hashes(items)}
        if _has_sdist(self._read):
            found["build"] = [format_numbers.SDIST, *_hashes(self.lock.build)]
        if misrecorded := sorted(item.name for item in items if item.name in self.lock.misrecorded):
            found["misrecorded"] = misrecorded
        if compiled := sorted(item.name for item in self._read if item.name in self.lock.compiled):
            from images.content.sdist import compiled_build

            found["compiled"] = [compiled_build.key(self.base_debs), *compiled]
        found |= changed_wheels.inputs(self.lock, items)
        if self.losses:
            found["left_out"] = left_out.inputs(self.losses)
        return found

    def entries(self, context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        """Make its entries, with byte code."""
        return bytecode.compiled(self._without_repetition(context, opened), context.compiler)

    def _without_repetition(self, context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        """Make the entries; a file that several distributions install alike appears once."""
        from images.formats import wheel_file

        paths = {item: self.wheel(item, context) for item in self._read}
        installed = partial(self._installed, paths)
        seen: dict[str, tuple[Entry, str]] = {}
        for item in self.group.distributions:
            misrecorded = item.name in self.lock.misrecorded
            wheel = opened.enter_context(wheel_file.opened(paths[item], misrecorded=misrecorded))
            lost = left_out.paths(self.losses, item, installed, self._own)
            changes = self._changes(item, context)
            for entry in wheel_file.entries(wheel, lost, changes):
                first, owner = seen.setdefault(entry.path, (entry, item.name))
                if first is entry:
                    yield entry
                elif first.size != entry.size or _content(first) != _content(entry):
                    raise ConflictError(
                        f"/{entry.path}: {owner} and {item.name}, which share a layer, install "
                        "it with different content",
                        remedy="name the winner under `conflicts:` in matrix.yaml",
                    )
            if changes:
                changed_wheels.check_used(self.lock, item, changes)

    def _changes(self, item: Distribution, context: LayerContext) -> Changes | None:
        from images.formats.wheel_changes import Changes

        rules = changed_wheels.rules(self.lock, item)
        if rules is None:
            return None
        return Changes(rules, lambda line: context.report(f"  {item.name} {item.version}: {line}"))

    def _installed(self, paths: dict[Distribution, Path], item: Distribution) -> InstalledFiles:
        from images.build.conflicts import wheel_files

        misrecorded = item.name in self.lock.misrecorded
        return wheel_files.of(paths[item], item.name, misrecorded=misrecorded)

    def _own(self) -> InstalledFiles:
        from images.build.conflicts import detection, image_files
        from images.inputs.matrix import conflict_rules

        return detection.InstalledFiles(conflict_rules.THE_IMAGE, image_files.of(self.toolkit))

    def record(self, context: LayerContext, opened: ExitStack) -> Entry:
        """Return the RECORD of its one distribution, as it is in the layer."""
        for entry in self._without_repetition(context, opened):
            if entry.path.endswith(".dist-info/RECORD"):
                break
            with entry.open() as stream:  # the hash of a changed file is known once it is read
                while stream.read(1 << 20):
                    pass
        return entry

    def wheel(self, item: Distribution, context: LayerContext) -> Path:
        """Return the wheel of a distribution; that of an sdist is built, once in a context."""
        from images.content.sdist import compiled_build, wheel_build

        path = _checked(item, context.cache)
        if item.is_wheel:
            return path
        needs = [_checked(need, context.cache) for need in self.lock.build]
        workdir = context.workdir / item.name
        if made := [*workdir.glob("*.whl")]:
            return made[0]
        workdir.mkdir()
        if item.name in self.lock.compiled:
            return compiled_build.build(path, needs, self.base_debs, context.cache, workdir)
        return wheel_build.build(path, needs, context.python, workdir)


class LinksLayer(NamedTuple):
    """The layer of links to the CUDA libraries in the engine's wheels.

    Attributes:
        lock: the target's lock.
        tools: the compiler's lock.
        home: whether there are links below /usr/local/cuda.
    """

    lock: Lock
    tools: Toolkit
    home: bool

    @property
    def nvidia(self) -> tuple[Distribution, ...]:
        """The distributions that are linked to."""
        return tuple(item for item in self.lock.of_engine() if item.name.startswith("nvidia-"))

    def recipe(self, keys: Keys) -> Recipe:
        """Return its recipe."""
        return Recipe(titles.LINKS, keys.of(self.inputs()), self.nvidia, (), self.entries, SMALL)

    def inputs(self) -> dict[str, Any]:
        """Return what decides about its bytes, but for what all layers share."""
        found: dict[str, Any] = {"links": format_numbers.CUDA_LINKS, "wheels": _hashes(self.nvidia)}
        if absent := changed_wheels.not_installed(self.lock, self.nvidia):
            found["not_installed"] = absent
        return found if self.home else {**found, "home": False}

    def entries(self, context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        """Make the links."""
        from images.formats import wheel_file

        members = {}
        for item in self.nvidia:
            misrecorded = item.name in self.lock.misrecorded
            path = _checked(item, context.cache)
            wheel = opened.enter_context(wheel_file.opened(path, misrecorded=misrecorded))
            members[item.name] = changed_wheels.installed_members(self.lock, item, wheel.members)
        own = {wheel.name for wheel in self.tools.header_wheels}
        found = links.entries(members, own)
        return found if self.home else links.of_the_loader(found)


def _content(entry: Entry) -> bytes:
    with entry.open() as stream:
        return stream.read()


def _checked(item: Distribution, cache: Path) -> Path:
    """Return the cached file of a distribution, its hash checked again: a cache can rot."""
    from images.inputs.fetch import download_cache

    return download_cache.checked(item.artifact, cache)


def _has_sdist(items: Iterable[Distribution]) -> bool:
    return not all(item.is_wheel for item in items)


def _hashes(items: Iterable[Distribution]) -> list[str]:
    return [item.artifact.sha256 for item in items]
