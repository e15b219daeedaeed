"""The work of one run: every layer that can be had goes to every destination that lacks it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Callable, Protocol, Sequence

from images.errors import BuildError, IntegrityError, StoreError, ToolError
from images.unbundle.destinations import disk
from images.unbundle.document import Bundle, Layer
from images.unbundle.sources.layer_source import PartsMissingError, Source, Sources
from images.unbundle.sources.parts import DamagedPartError, Parts


class Destination(Protocol):
    """A place that an image is laid out in."""

    def has(self, layer: Layer) -> bool:
        """Whether it has all of a layer."""

    def ready(self, layer: Layer) -> bool:
        """Whether it can take a layer yet."""

    def take(self, layer: Layer, source: Source) -> None:
        """Take a layer; afterwards `has` is true, in later runs as well."""

    def flush(self) -> None:
        """Bring what it took to the disk."""

    def finish(self) -> None:
        """Become whole; all layers are there."""

    def how_to(self) -> Sequence[str]:
        """Commands that use it."""


@dataclass
class Outcome:
    """What a run could not do.

    Attributes:
        missing: names of parts that must still arrive.
        faults: errors of layers, one of each message.
    """

    missing: dict[str, None] = field(default_factory=dict)
    faults: dict[str, BuildError] = field(default_factory=dict)


class Work:
    """Layers on their way to destinations: an own base's one after the other, then ours.

    Of ours several come at a time, and their order does not matter.
    """

    def __init__(
        self,
        bundle: Bundle,
        parts: Parts,
        sources: Sources,
        destinations: Sequence[Destination],
        say: Callable[[str], None],
    ) -> None:
        self._bundle, self._parts, self._sources = bundle, parts, sources
        self._destinations, self._say = destinations, say
        self._lock = threading.Lock()
        self._removing = threading.Lock()
        self._crash: list[BaseException] = []

    def todo(self) -> list[Layer]:
        """The layers that a destination lacks."""
        return [
            layer
            for layer in self._bundle.layers
            if not all(place.has(layer) for place in self._destinations)
        ]

    def run(self, jobs: int, *, remove_parts: bool = False) -> Outcome:
        """Do what can be done now.

        Args:
            jobs: layers at a time.
            remove_parts: remove each part that no layer needs any more.
        """
        outcome, todo = Outcome(), self.todo()
        base = [layer for layer in todo if layer.number < self._bundle.base]
        self._all(base, 1, outcome, remove_parts)
        self._all(todo[len(base) :], jobs, outcome, remove_parts)
        if remove_parts:
            self._remove()  # those that an earlier run had used as well
        return outcome

    def _all(
        self, layers: Sequence[Layer], jobs: int, outcome: Outcome, remove_parts: bool
    ) -> None:
        waiting = deque(layers)
        workers = [
            # Daemons: an interrupted run does not wait for them, and may be cut off anywhere.
            threading.Thread(
                target=self._worker, args=(waiting, outcome, remove_parts), daemon=True
            )
            for _ in range(min(jobs, len(waiting)))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if self._crash:
            raise self._crash[0]

    def _worker(self, waiting: deque[Layer], outcome: Outcome, remove_parts: bool) -> None:
        while not self._crash:
            try:
                layer = waiting.popleft()
            except IndexError:
                return
            try:
                self._bring(layer)
            except PartsMissingError as error:
                with self._lock:
                    outcome.missing.update(dict.fromkeys(error.missing))
                continue
            except (StoreError, ToolError) as error:
                # The next layer would meet the same.
                self._crash.append(error)
                return
            except BuildError as error:
                with self._lock:
                    outcome.faults[error.message] = error
                continue
            except BaseException as error:
                self._crash.append(error)
                return
            if remove_parts:
                self._remove()

    def _bring(self, layer: Layer) -> None:
        source = self._sources.find(layer)
        lacking = [place for place in self._destinations if not place.has(layer)]
        places = [place for place in lacking if place.ready(layer)]
        for place in places:
            try:
                place.take(layer, source)
            except DamagedPartError:
                raise
            except IntegrityError as error:
                said = f"{layer.name}: {error.message}"
                raise IntegrityError(said, remedy=error.remedy) from error
            except OSError as error:
                raise disk.told(error, layer.name) from error
        if places:
            self._say(f"layer {layer.number + 1} of {len(self._bundle.layers)}: {layer.name}")

    def _remove(self) -> None:
        with self._removing:
            for place in self._destinations:
                place.flush()
            self._parts.remove_unneeded(self.todo())
