"""Summaries of images, built or planned: what is shared and what must be pulled follows from them.

A summary is of a target, from its locks alone (`of_target`), or of an image in a store
(`of_image`). Nothing is fetched or made for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from images.build import prepare, titles
from images.build.prepare import Inputs, Shared
from images.build.recipe import Recipe
from images.build.titles import Kind, LayerName
from images.content import runtime_wheel
from images.errors import LockError, UsageError
from images.inputs.lock.artifact import Artifact
from images.inputs.matrix.records import Matrix, Target
from images.oci.descriptor import Blob, Compression
from images.oci.image import Image
from images.oci.store.store import Store
from images.util import suggest

PackageKind = Literal["distribution", "debian", "toolkit"]


class Package(NamedTuple):
    """A package of an image.

    Attributes:
        kind: where it comes from; the CUDA compiler is one package.
        name: normalised (PEP 503), or Debian's.
        version: PEP 440, Debian's, or that of CUDA.
    """

    kind: PackageKind
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """A layer of an image, made or planned.

    Attributes:
        name: what it is.
        key: the digest of its inputs; "" where only the layer itself is known.
        blob: the layer, if a store has it.
        weight: bytes of the locked files that it is made from.
        files: the locked wheels and sdists that it installs; none where it is made of other things.
        packages: what it contains; None where only the layer itself shows it (`packages.packages`).
    """

    name: LayerName
    key: str
    blob: Blob | None
    weight: int = 0
    files: tuple[Artifact, ...] = ()
    packages: tuple[Package, ...] | None = None

    @property
    def title(self) -> str:
        """Its title in a manifest."""
        return self.name.title

    @property
    def identity(self) -> str:
        """Two layers of one identity are the same bytes."""
        return self.blob.digest if self.blob else self.key

    @property
    def size(self) -> int:
        """Compressed bytes; those of its locked files as long as it is not made."""
        return self.blob.size if self.blob else self.weight


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """An image, built or planned.

    Attributes:
        name: of the target, or the name that was asked for.
        digest: of the manifest; None where it is not built.
        layers: lowest first.
        renewed: whether a build would make other layers today: the locks or the builder changed.
    """

    name: str
    digest: str | None
    layers: tuple[LayerSummary, ...]
    renewed: bool = False

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def identities(self) -> list[str]:
        """Of all layers, lowest first."""
        return [layer.identity for layer in self.layers]


def of_target(
    matrix: Matrix,
    target: Target,
    store: Store | None,
    compression: Compression,
    shared: Shared | None = None,
) -> ImageSummary:
    """Summarise what a build of a target would make.

    Args:
        matrix: that the target is of.
        target: the target.
        store: where layers may be already.
        compression: of the layers.
        shared: the same one for targets that are asked for together, of that store.

    Raises:
        LockError: a lock is missing, stale or edited by hand.
    """
    shared = shared or Shared(store)
    inputs = prepare.inputs_of(matrix, target, compression, shared)
    layers = (_of_recipe(recipe, inputs, shared.known(recipe.key)) for recipe in inputs.recipes())
    return ImageSummary(target.id, None, tuple(layers))


def _of_recipe(recipe: Recipe, inputs: Inputs, blob: Blob | None) -> LayerSummary:
    if recipe.installed:
        files = tuple(item.artifact for item in recipe.installed)
        weight = sum(file.size for file in files)  # without what an sdist is built with
    else:
        files, weight = (), recipe.weight
    return LayerSummary(recipe.name, recipe.key, blob, weight, files, _packages(recipe, inputs))


def _packages(recipe: Recipe, inputs: Inputs) -> tuple[Package, ...]:
    debs = {Kind.DEBIAN: inputs.debs, Kind.ADDED_DEBS: inputs.added_debs}.get(recipe.kind, ())
    if debs:
        return tuple(Package("debian", deb.package, deb.version) for deb in debs)
    if recipe.kind is Kind.RUNTIME:
        return (Package("distribution", "roll-runtime", runtime_wheel.version()),)
    if recipe.kind is Kind.COMPILER:
        return (of_compiler(recipe.name.version),)
    return tuple(Package("distribution", item.name, item.version) for item in recipe.installed)


def of_compiler(version: str) -> Package:
    """Return the CUDA compiler as one package."""
    return Package("toolkit", "cuda-compiler", version)


def of_image(name: str, image: Image) -> ImageSummary:
    """Summarise an image in a store."""
    layers = tuple(
        LayerSummary(titles.parse(layer.title), "", layer.blob) for layer in image.layers
    )
    return ImageSummary(name, image.manifest_digest, layers)


def find(name: str, matrix: Matrix, store: Store | None, compression: Compression) -> ImageSummary:
    """Return the summary for a name: of an image of the store, else of a target.

    Args:
        name: a target's id, or the digest of an image in the store, or its beginning.
        matrix: the targets.
        store: where images may be.
        compression: of layers that are not made.

    Raises:
        UsageError: neither the store nor the matrix has it.
        LockError: the lock of a target that is not built is missing, stale or edited by hand.
    """
    names = store.images() if store else {}
    if store and (name in names or name.startswith("sha256:")):
        found = of_image(name, store.load(name) if name in names else store.load_digest(name))
        return replace(found, renewed=_is_renewed(found, matrix, name, store))
    if target := matrix.find(name):
        return of_target(matrix, target, store, compression)
    ids = [target.id for target in matrix.targets]
    raise suggest.no_image(name, ids, names, also=", or the digest of an image in the store")


def _is_renewed(built: ImageSummary, matrix: Matrix, name: str, store: Store) -> bool:
    blob = built.layers[0].blob if built.layers else None
    compression: Compression = "zstd" if blob and blob.media_type.endswith("zstd") else "gzip"
    try:
        target = matrix.find(name)
        today = of_target(matrix, target, store, compression) if target else None
    except (LockError, UsageError):  # UsageError: the target has no longer the GPUs of its name
        return True
    return today is not None and today.identities != built.identities
