"""What a target stands on, and the layers that it puts there: the start of a build and a fetch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from images.build import layer_recipes
from images.build.flavour_layers import Flavour
from images.build.layer_recipes import Footing, Recipe
from images.inputs.fetch.needed_files import NeededFiles
from images.inputs.lock import base_lock, cuda_lock, extra_lock, python_lock, target_lock
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.records import Target
from images.oci.layer.writer import Blob, Compression
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.attest.materials import Materials
    from images.build.builder import Made, Settings
    from images.content.custom_base.base_image import Ground
    from images.content.custom_base.source import Place
    from images.inputs.matrix.records import Matrix
    from images.oci.store.store import Store


@dataclass(frozen=True, slots=True)
class Inputs:
    """The locks of one target.

    Attributes:
        target: the target.
        lock: its lock.
        debs: the lock of our Debian base, of which the image's interpreter is made in any case.
        tools: the lock of the CUDA compiler.
        compression: of the layers.
        added_debs: the Debian packages that the target's flavour adds to our base.
    """

    target: Target
    lock: Lock
    debs: Sequence[Deb]
    tools: Toolkit
    compression: Compression = "zstd"
    added_debs: Sequence[Deb] = ()

    def flavour(self) -> Flavour | None:
        """What the target has as a flavour; None of a plain one."""
        name = self.target.flavour
        return Flavour(name, self.added_debs, self.target.environment()) if name else None

    def recipes(self, ground: Ground | None) -> list[Recipe]:
        """The layers that the target puts on what it stands on."""
        footing = Footing(ground.facts.python, ground.facts.nvcc) if ground else None
        return layer_recipes.recipes(
            self.lock, self.debs, self.tools, self.compression, footing, self.flavour()
        )

    def materials(self, ground: Ground | None) -> Materials:
        """The locked files that are in the image; on an own base neither Debian's of ours are, nor
        our compiler where it has one."""
        from images.attest.materials import Materials

        if ground is None:
            return Materials(self.lock, (*self.debs, *self.added_debs), self.tools)
        tools = Toolkit(self.tools.version, (), ()) if ground.facts.nvcc else self.tools
        image = ground.image
        repository = str(image.reference.repository or "")
        return Materials(self.lock, (), tools, image.manifest_digest, repository)


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
        """The layer that these inputs gave before, if the store has it."""
        if key not in self._blobs:
            self._blobs[key] = self._store.known(key) if self._store else None
        return self._blobs[key]

    @cached_property
    def debs(self) -> Sequence[Deb]:
        """Of our Debian base."""
        return base_lock.read()

    def toolkit(self, version: str) -> Toolkit:
        """Of a CUDA compiler."""
        if version not in self._toolkits:
            self._toolkits[version] = cuda_lock.read(version)
        return self._toolkits[version]


def inputs_of(
    matrix: Matrix, target: Target, compression: Compression = "zstd", shared: Shared | None = None
) -> Inputs:
    """The locks of a target, all read and checked.

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
    """The Debian packages of a flavour; an own base brings them itself."""
    if target.base or not target.debian:
        return ()

    return extra_lock.read(matrix.debian_lock_path(target.flavour), target.debian, debs)


def ready(
    inputs: Inputs, place: Place, store: Store, progress: Progress
) -> tuple[Ground | None, list[Recipe]]:
    """The own base, whole and fit, if the target has one; and the recipes of the target's layers.

    Raises:
        MatrixError: the base cannot carry the target.
        FetchError, RegistryError, IntegrityError, StoreError: it cannot be had, read or kept.
    """
    if not inputs.target.base:
        return None, inputs.recipes(None)
    from images.content.custom_base import base_image
    from images.inputs.matrix import base_reference

    image = base_image.describe(base_reference.parse(inputs.target.base), place)
    base_image.check_platform(image)
    base_image.bring(image, place, progress)
    return _fit(inputs, base_image.survey(image, place.cache, store, progress))


def _fit(inputs: Inputs, ground: Ground) -> tuple[Ground, list[Recipe]]:
    from images.content.custom_base import base_image

    recipes = inputs.recipes(ground)
    base_image.check(inputs.target, ground, inputs.lock, inputs.tools, len(recipes))
    return ground, recipes


def put(ground: Ground, settings: Settings) -> list[Made]:
    """Put the layers of an own base into the store, lowest first."""
    from images.build.builder import Made
    from images.content.custom_base import base_image

    reused = base_image.put_layers(ground, settings.cache, settings.store)
    return [Made(layer, there, key="") for layer, there in zip(ground.layers, reused, strict=True)]


def wanted(inputs: Inputs, place: Place, progress: Progress, *, bring: bool) -> NeededFiles:
    """All files that a build of the target needs.

    Args:
        inputs: the target's locks.
        place: where an own base is looked for; with `offline`, its documents must be in the cache.
        progress: told of the stages.
        bring: whether an own base is fetched, and hashed again where it is there.

    Raises:
        MatrixError: the base cannot carry the target.
        FetchError, RegistryError, IntegrityError, StoreError: it cannot be had, read or kept.
    """
    python = python_lock.packages(inputs.debs)
    if not inputs.target.base:
        return layer_recipes.files_of(inputs.recipes(None), python)
    from images.content.custom_base import base_image
    from images.inputs.fetch import download_cache
    from images.inputs.matrix import base_reference

    image = base_image.describe(base_reference.parse(inputs.target.base), place)
    base_image.check_platform(image)
    if bring:
        base_image.bring(image, place, progress, verify=True)
    if download_cache.missing(image.artifacts, place.cache):
        # Whether it has a compiler is not known yet: then ours is counted among what is needed.
        footing = Footing("", compiler=False)
        recipes = layer_recipes.recipes(
            inputs.lock, inputs.debs, inputs.tools, "zstd", footing, inputs.flavour()
        )
    else:
        _, recipes = _fit(inputs, base_image.survey(image, place.cache, None, progress))
    return layer_recipes.files_of(recipes, python, image.artifacts)
