"""Prepare a target: its locks, its base, its recipes, and the files that they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from images.build import base as bases
from images.build import layer_recipes
from images.build.base import Base
from images.build.layers.flavour_layers import Flavour
from images.build.recipe import Recipe, files_of
from images.content.kernels import kernel_inputs
from images.content.kernels.kernel_inputs import Kernels
from images.inputs.build_options import BuildOptions, FetchOptions
from images.inputs.fetch.needed_files import NeededFiles
from images.inputs.lock import base_lock, cuda_lock, extra_lock, python_lock, target_lock
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.records import Target
from images.oci.descriptor import Blob, Compression
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.attest.materials import Materials
    from images.build.builder import BuiltLayer
    from images.inputs.matrix.records import Matrix
    from images.oci.store.store import Store


@dataclass(frozen=True, slots=True)
class Inputs:
    """The locks of one target.

    Attributes:
        target: the target.
        lock: its lock.
        debs: the lock of the Debian base, of which the image's interpreter is made in any case.
        tools: the lock of the CUDA compiler.
        compression: of the layers.
        added_debs: the Debian packages that the target's flavour adds to the Debian base.
    """

    target: Target
    lock: Lock
    debs: Sequence[Deb]
    tools: Toolkit
    compression: Compression = "zstd"
    added_debs: Sequence[Deb] = ()

    def recipes(self) -> list[Recipe]:
        """Return the layers that the target has on the Debian base: known from its locks alone."""
        return self.recipes_on(self.debian_base())

    def recipes_on(self, base: Base) -> list[Recipe]:
        """Return the layers that the target puts on a base."""
        return layer_recipes.recipes(
            self.lock,
            self.debs,
            self.tools,
            self.compression,
            base,
            self._flavour(),
            self.kernels,
        )

    @property
    def kernels(self) -> Kernels | None:
        """The kernels that are compiled for the target, if there are any."""
        return kernel_inputs.of(self.target)

    def debian_base(self) -> Base:
        """Return the Debian base, as the target has it."""
        return bases.debian(self.debs, self.added_debs)

    def _flavour(self) -> Flavour | None:
        name = self.target.flavour
        return Flavour(name, self.added_debs, self.target.environment()) if name else None


class Shared:
    """What targets have in common: each is read when it is first asked for, and once.

    Args:
        store: where layers may be already.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._toolkits: dict[str, Toolkit] = {}
        self._blobs: dict[str, Blob | None] = {}

    def known(self, key: str) -> Blob | None:
        """Return the layer that was made of these inputs before, if the store has it."""
        if key not in self._blobs:
            self._blobs[key] = self._store.layer_keys.known(key) if self._store else None
        return self._blobs[key]

    @cached_property
    def debs(self) -> Sequence[Deb]:
        """The lock of the Debian base."""
        return base_lock.read()

    def toolkit(self, version: str) -> Toolkit:
        """Return the lock of a CUDA compiler."""
        if version not in self._toolkits:
            self._toolkits[version] = cuda_lock.read(version)
        return self._toolkits[version]


def inputs_of(
    matrix: Matrix, target: Target, compression: Compression = "zstd", shared: Shared | None = None
) -> Inputs:
    """Read and check the locks of a target.

    Args:
        matrix: that the target is of.
        target: the target.
        compression: of the layers.
        shared: the same one for targets that are asked for together.

    Raises:
        LockError: one is missing, stale or edited by hand.
    """
    shared = shared or Shared()
    return Inputs(
        target,
        target_lock.read(matrix, target),
        shared.debs,
        shared.toolkit(target.toolkit),
        compression,
        _added_debs(matrix, target, shared.debs),
    )


def _added_debs(matrix: Matrix, target: Target, debs: Sequence[Deb]) -> Sequence[Deb]:
    """Read the Debian packages of a flavour; a custom base contains them itself."""
    if target.base or not target.debian:
        return ()

    return extra_lock.read(matrix.debian_lock_path(target.flavour), target.debian, debs)


@dataclass(frozen=True)
class Prepared:
    """A target whose base is ready.

    Attributes:
        inputs: the target's locks.
        base: what its layers are put on.
    """

    inputs: Inputs
    base: Base

    @property
    def target(self) -> Target:
        """The target."""
        return self.inputs.target

    @cached_property
    def recipes(self) -> list[Recipe]:
        """The layers that the target puts on its base, lowest first."""
        return self.inputs.recipes_on(self.base)

    @property
    def needed(self) -> NeededFiles:
        """All files that a build needs, whatever the store has."""
        python = python_lock.packages(self.inputs.debs)
        return files_of(self.recipes, python, self.base.artifacts)

    @property
    def materials(self) -> Materials:
        """What the image's SBOM lists."""
        from images.attest.materials import Materials

        return Materials(
            self.inputs.lock,
            self.base.debs,
            None if self.base.has_compiler else self.inputs.tools,
            self.base.digest,
            self.base.repository,
            None if self.base.digest else self.inputs.kernels,
        )


def ready(
    inputs: Inputs,
    options: FetchOptions,
    progress: Progress,
    store: Store | None = None,
    *,
    fetch: bool = True,
    verify: bool = False,
) -> Prepared:
    """Make a target's base ready: a custom base is fetched, read and checked against the target.

    Args:
        inputs: the target's locks.
        options: of the build or the fetch.
        progress: reports the stages.
        store: the store that the target is built into, if it is.
        fetch: without it, at least the documents of a custom base must be in the download cache.
            While that lacks layers, the base counts as one without a compiler.
        verify: hash again what the download cache has of a custom base; what is damaged is fetched
            again.

    Raises:
        MatrixError: the target cannot be built on the base.
        FetchError, RegistryError, IntegrityError, StoreError: the base is unavailable, cannot be
            read or cannot be stored.
    """
    if not inputs.target.base:
        return Prepared(inputs, inputs.debian_base())
    from images.content.custom_base import base_image, base_image_layers, fit
    from images.inputs.fetch import download_cache
    from images.inputs.matrix import base_reference

    image = base_image.describe(base_reference.parse(inputs.target.base), options)
    fit.check_platform(image)
    if fetch:
        base_image_layers.fetch(image, options, store, progress, verify=verify)
    elif download_cache.missing(image.artifacts, options.cache):
        return Prepared(inputs, bases.custom(image, None, inputs.target))
    survey = base_image_layers.survey(image, options.cache, store, progress)
    found = Prepared(inputs, bases.custom(image, survey, inputs.target))
    added = len(found.recipes)
    fit.check(inputs.target, image, survey.facts, inputs.lock, inputs.tools, added)
    return found


def put(base: Base, options: BuildOptions) -> list[BuiltLayer]:
    """Put the layers of a base that are used as they are into the store, lowest first."""
    if not base.layers:
        return []
    from images.build.builder import BuiltLayer
    from images.content.custom_base import base_image_layers

    reused = base_image_layers.put(base.layers, options.cache, options.store)
    return [
        BuiltLayer(layer, there, key="") for layer, there in zip(base.layers, reused, strict=True)
    ]
