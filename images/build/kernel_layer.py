"""The layer of kernels that are compiled when the image is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from images.build import grouping, titles
from images.build.recipe import Keys, LayerContext, Recipe, weight_of
from images.build.wheel_layers import LinksLayer, WheelLayer
from images.content.kernels import kernel_build
from images.content.kernels.kernel_build import FLASHINFER, HELPERS, Kernels, Sources
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.oci.layer.entry import Entry

_SECONDS = 20_000_000
"""Weight of a second of compiling: what a layer of wheels takes a second for, on one core."""

_SECONDS_OF_A_MODULE = 40


class KernelLayer(NamedTuple):
    """The layer of a target's kernels.

    Attributes:
        kernels: the kernels.
        flashinfer: the layer of FlashInfer, whose RECORD they are added to.
        base_debs: the base's lock.
        tools: the compiler's lock.
    """

    kernels: Kernels
    flashinfer: WheelLayer
    base_debs: Sequence[Deb]
    tools: Toolkit

    def recipe(self, keys: Keys) -> Recipe:
        """Return its recipe."""
        needs = tuple(dict.fromkeys((*self.flashinfer.needs, *self._helpers, *self._headers)))
        debs = tuple(dict.fromkeys((*self.base_debs, *self.tools.debs)))
        weight = (
            weight_of(debs)
            + len(self.kernels.flashinfer + self.kernels.sglang) * _SECONDS_OF_A_MODULE * _SECONDS
        )
        key = keys.of(self.inputs())
        return Recipe(titles.KERNELS, key, (*needs, *self.tools.wheels), debs, self.entries, weight)

    def inputs(self) -> dict[str, Any]:
        """Return what decides about its bytes, but for what all layers share."""
        return {
            "flashinfer": self.flashinfer.inputs(),
            "headers": [item.artifact.sha256 for item in self._headers],
            "helpers": [item.artifact.sha256 for item in self._helpers],
            "kernels": kernel_build.key(self.kernels, self.tools, self.base_debs),
        }

    def entries(self, context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        """Compile the kernels, and add them to FlashInfer's RECORD."""
        from images.formats import wheel_record

        links = LinksLayer(self.flashinfer.lock, self.tools, home=True)
        (torch,) = (item for item in self._headers if item.name == "torch")
        sources = Sources(
            [self.flashinfer.wheel(item, context) for item in (*self._own, *self._helpers)],
            [self.flashinfer.wheel(item, context) for item in self._headers],
            torch.version,
            list(links.entries(context, opened)),
            self.tools,
            self.base_debs,
        )
        made = list(kernel_build.entries(self.kernels, sources, context.cache, context.workdir))
        yield from made
        yield wheel_record.with_files(self.flashinfer.record(context, opened), made)

    @property
    def _own(self) -> tuple[Distribution, ...]:
        return self.flashinfer.group.distributions

    @property
    def _helpers(self) -> list[Distribution]:
        names = {*HELPERS, *(("sglang",) if self.kernels.sglang else ())}
        return [item for item in self.flashinfer.lock.of_engine() if item.name in names]

    @property
    def _headers(self) -> list[Distribution]:
        return [
            item
            for item in self.flashinfer.lock.of_engine()
            if item.name == "torch" or item.name.startswith("nvidia-")
        ]


def group_of(groups: Sequence[grouping.Group]) -> grouping.Group | None:
    """Return the group of FlashInfer alone, if it is in a layer of its own."""
    for group in groups:
        if [item.name for item in group.distributions] == [FLASHINFER]:
            return group
    return None
