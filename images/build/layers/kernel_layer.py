"""The layer of kernels that are compiled when the image is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from images.build import grouping, titles
from images.build.layers.wheel_layers import LinksLayer, WheelLayer
from images.build.recipe import Keys, LayerContext, Recipe, weight_of
from images.content import changed_wheels
from images.content.kernels import kernel_inputs
from images.content.kernels.kernel_inputs import (
    FLASHINFER,
    HELPERS,
    SGLANG,
    TORCH,
    TRITON,
    Kernels,
)
from images.errors import MatrixError
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.oci.layer.entry import Entry

if TYPE_CHECKING:
    from images.formats.wheel_changes import Changes

_SECOND = 20_000_000
"""Weight of a second of compiling: the bytes of wheels that become a layer in one, on one core."""

_SECONDS_OF_A_MODULE = 40
_SIZE_OF_A_MODULE = 300_000


class KernelLayer(NamedTuple):
    """The layer of a target's kernels.

    Attributes:
        kernels: which kernels.
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
        own = (*self.flashinfer.needs, *self._helpers, *self._headers)
        count = self.kernels.count
        return Recipe(
            titles.KERNELS,
            keys.of(self.inputs()),
            tuple(dict.fromkeys((*own, *self.tools.wheels))),
            tuple(dict.fromkeys((*self.base_debs, *self.tools.debs))),
            self.entries,
            count * _SIZE_OF_A_MODULE,
            compiling=weight_of(self.base_debs) + count * _SECONDS_OF_A_MODULE * _SECOND,
        )

    def inputs(self) -> dict[str, Any]:
        """Return what decides about its bytes, but for what all layers share."""
        return {
            "changes": changed_wheels.inputs(self.flashinfer.lock, self._helpers),
            "flashinfer": self.flashinfer.inputs(),
            "headers": [item.artifact.sha256 for item in self._headers],
            "helpers": [item.artifact.sha256 for item in self._helpers],
            "kernels": kernel_inputs.key(self.kernels, self.tools, self.base_debs),
            "links": self._links.inputs(),
        }

    def entries(self, context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
        """Compile the kernels, and add them to FlashInfer's RECORD."""
        from images.content.kernels import kernel_build
        from images.formats import wheel_record

        whole = (*self.flashinfer.group.distributions, *self._helpers)
        paths = {item: self.flashinfer.wheel(item, context) for item in (*whole, *self._headers)}
        wrong = self.flashinfer.lock.misrecorded
        sources = kernel_build.Sources(
            [paths[item] for item in whole],
            [paths[item] for item in self._headers],
            next(item.version for item in self._headers if item.name == TORCH),
            list(self._links.entries(context, opened)),
            self.tools,
            self.base_debs,
            frozenset(path for item, path in paths.items() if item.name in wrong),
            {paths[item]: changes for item, changes in self._changes()},
        )
        made = list(kernel_build.entries(self.kernels, sources, context.cache, context.workdir))
        yield from made
        yield wheel_record.with_files(self.flashinfer.record(context, opened), made)

    @property
    def _links(self) -> LinksLayer:
        return LinksLayer(self.flashinfer.lock, self.tools, home=True)

    def _changes(self) -> Iterator[tuple[Distribution, Changes]]:
        """Yield how its helpers are changed in the image, which their own layers report."""
        from images.formats.wheel_changes import Changes

        for item in self._helpers:
            if rules := changed_wheels.rules(self.flashinfer.lock, item):
                yield item, Changes(rules)

    @property
    def _helpers(self) -> list[Distribution]:
        names = {*HELPERS, *_sources(self.kernels)}
        return [item for item in self.flashinfer.lock.of_engine() if item.name in names]

    @property
    def _headers(self) -> list[Distribution]:
        return [
            item
            for item in self.flashinfer.lock.of_engine()
            if item.name == TORCH or item.name.startswith("nvidia-")
        ]


def _sources(kernels: Kernels) -> set[str]:
    """Return the distributions beside FlashInfer that have sources of kernels, or compile them."""
    if kernels.triton:
        return {SGLANG, TRITON}
    return {SGLANG} if kernels.sglang else set()


def group_of(kernels: Kernels, groups: Sequence[grouping.Group]) -> grouping.Group:
    """Return the group of FlashInfer, whose RECORD kernels are added to.

    Args:
        kernels: those of the target.
        groups: the target's distributions.

    Raises:
        MatrixError: the target lacks a distribution that the kernels are compiled from, or
            FlashInfer shares its layer.
    """
    needed = {FLASHINFER, TORCH, *_sources(kernels)}
    names = {item.name for group in groups for item in group.distributions}
    if missing := sorted(needed - names):
        raise MatrixError(
            f"kernels: {', '.join(kernels.modules)}: the target has no {', '.join(missing)}",
            remedy="restrict the entry with `sglang:` to the targets that it is for",
        )
    for group in groups:
        if [item.name for item in group.distributions] == [FLASHINFER]:
            return group
    raise MatrixError(
        f"kernels: {', '.join(kernels.modules)}: {FLASHINFER} is smaller than "
        f"{grouping.OWN_LAYER} bytes, so it has no layer of its own",
        remedy="lock a release that has its kernels' sources in the wheel",
    )
