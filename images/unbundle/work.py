"""The work of one run: every available layer goes to every destination that lacks it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Callable, Protocol, Sequence

from images.errors import BuildError, IntegrityError, StoreError, ToolError
from images.unbundle.destinations import disk
from images.unbundle.document import Bundle, Layer
from images.unbundle.sources.layer_source import LayerSource, LayerSources, PartsMissingError
from images.unbundle.sources.parts import DamagedPartError, Parts


class Destination(Protocol):
    """A directory that an image is unpacked into, in some form."""

    def has(self, layer: Layer) -> bool:
        """Return whether it has all of a layer."""

    def ready(self, layer: Layer) -> bool:
        """Return whether it can take a layer yet."""

    def take(self, layer: Layer, source: LayerSource) -> None:
        """Take a layer; afterwards `has` is true, in later runs as well."""

    def flush(self) -> None:
        """Sync what it took to disk."""

    def finish(self) -> None:
        """Complete the image; all layers are there."""

    def how_to(self) -> Sequence[str]:
        """Return commands that use it, for people."""


@dataclass
class Shortfall:
    """The parts and layers that a run lacked.

    Attributes:
        missing: names of parts that have not arrived.
        faults: errors of layers, by message.
    """

    missing: dict[str, None] = field(default_factory=dict)
    faults: dict[str, BuildError] = field(default_factory=dict)


class Work:
    """The layers that destinations lack: first those of a custom base, one by one, then our own.

    Several of our own are unpacked at a time, in any order.
    """

    def __init__(
        self,
        bundle: Bundle,
        parts: Parts,
        sources: LayerSources,
        destinations: Sequence[Destination],
        log: Callable[[str], None],
    ) -> None:
        self._bundle, self._parts, self._sources = bundle, parts, sources
        self._destinations, self._log = destinations, log
        self._lock = threading.Lock()
        self._removing = threading.Lock()
        self._crash: list[BaseException] = []

    def todo(self) -> list[Layer]:
        """Return the layers that a destination lacks."""
        return [
            layer
            for layer in self._bundle.layers
            if not all(destination.has(layer) for destination in self._destinations)
        ]

    def run(self, jobs: int, *, remove_parts: bool = False) -> Shortfall:
        """Do what is possible now.

        Args:
            jobs: layers at a time.
            remove_parts: remove each part that no layer needs any more.
        """
        shortfall, todo = Shortfall(), self.todo()
        base = [layer for layer in todo if layer.number < self._bundle.base]
        self._all(base, 1, shortfall, remove_parts)
        self._all(todo[len(base) :], jobs, shortfall, remove_parts)
        if remove_parts:
            self._remove()  # also the parts that an earlier run used
        return shortfall

    def _all(
        self, layers: Sequence[Layer], jobs: int, shortfall: Shortfall, remove_parts: bool
    ) -> None:
        waiting = deque(layers)
        workers = [
            # Daemon threads: an interrupted run does not wait for them; they may end anywhere.
            threading.Thread(
                target=self._worker, args=(waiting, shortfall, remove_parts), daemon=True
            )
            for _ in range(min(jobs, len(waiting)))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if self._crash:
            raise self._crash[0]

    def _worker(self, waiting: deque[Layer], shortfall: Shortfall, remove_parts: bool) -> None:
        while not self._crash:
            try:
                layer = waiting.popleft()
            except IndexError:
                return
            try:
                self._take(layer)
            except PartsMissingError as error:
                with self._lock:
                    shortfall.missing.update(dict.fromkeys(error.missing))
                continue
            except (StoreError, ToolError) as error:
                # The next layer would fail as well.
                self._crash.append(error)
                return
            except BuildError as error:
                with self._lock:
                    shortfall.faults[error.message] = error
                continue
            except BaseException as error:
                self._crash.append(error)
                return
            if remove_parts:
                self._remove()

    def _take(self, layer: Layer) -> None:
        source = self._sources.find(layer)
        lacking = [one for one in self._destinations if not one.has(layer)]
        ready = [one for one in lacking if one.ready(layer)]
        for destination in ready:
            try:
                destination.take(layer, source)
            except DamagedPartError:
                raise
            except IntegrityError as error:
                message = f"{layer.name}: {error.message}"
                raise IntegrityError(message, remedy=error.remedy) from error
            except OSError as error:
                raise disk.translated(error, layer.name) from error
        if ready:
            self._log(f"layer {layer.number + 1} of {len(self._bundle.layers)}: {layer.name}")

    def _remove(self) -> None:
        with self._removing:
            for destination in self._destinations:
                destination.flush()
            self._parts.remove_unneeded(self.todo())
