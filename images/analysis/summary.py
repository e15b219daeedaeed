"""The layers of an image, made or not: what is shared and what must be pulled is seen from these.

An outline is of a target, by its locks alone (`of_target`), or of an image as it lies in a store
(`of_image`). Nothing is fetched or made for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from images.build import flavour_layers, grouping, layer_recipes, prepare
from images.build.prepare import Inputs, Shared
from images.content import runtime_wheel
from images.errors import LockError
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution
from images.inputs.matrix.records import Matrix, Target
from images.oci.image import Image
from images.oci.layer.writer import Blob, Compression
from images.oci.store.store import Store
from images.util import suggest

Kind = Literal["distribution", "debian", "toolkit"]


class Package(NamedTuple):
    """A package of an image.

    Attributes:
        kind: where it comes from; the CUDA compiler is one package.
        name: normalised (PEP 503), or Debian's.
        version: PEP 440, Debian's, or that of CUDA.
    """

    kind: Kind
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Part:
    """A layer of an outline.

    Attributes:
        title: what people see.
        key: the digest of its inputs; "" where only the layer itself is known.
        blob: the layer, if a store has it.
        weight: bytes of the locked files that it is made from.
        files: the locked wheels and sdists that it holds; none where it is made of other things.
        packages: what it holds; None where only the layer itself can tell (`contents.packages`).
    """

    title: str
    key: str
    blob: Blob | None
    weight: int = 0
    files: tuple[Artifact, ...] = ()
    packages: tuple[Package, ...] | None = None

    @property
    def identity(self) -> str:
        """Two layers of one identity are the same bytes."""
        return self.blob.digest if self.blob else self.key

    @property
    def size(self) -> int:
        """Compressed bytes; those of its locked files as long as it is not made."""
        return self.blob.size if self.blob else self.weight


@dataclass(frozen=True, slots=True)
class Outline:
    """The layers of an image.

    Attributes:
        name: of the target, or what the image was asked for by.
        digest: of the manifest; None where it is not built.
        parts: lowest first.
        renewed: whether a build would make other layers today: the locks or the builder changed.
    """

    name: str
    digest: str | None
    parts: tuple[Part, ...]
    renewed: bool = False

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(part.size for part in self.parts)

    @property
    def identities(self) -> list[str]:
        """Of all layers, lowest first."""
        return [part.identity for part in self.parts]


def of_target(
    matrix: Matrix,
    target: Target,
    store: Store | None,
    compression: Compression,
    shared: Shared | None = None,
) -> Outline:
    """What a build of a target would make.

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
    locked = inputs.lock
    grouped = grouping.groups(locked.of_engine())
    grouped += grouping.added_groups(locked.of_flavour(), target.flavour, locked.compiled)
    groups = {group.title: group.distributions for group in grouped}
    parts = []
    for recipe in inputs.recipes(None):
        found = Part(recipe.title, recipe.key, shared.known(recipe.key), recipe.weight)
        if recipe.title in groups:
            found = _of_distributions(found, groups[recipe.title])
        else:
            found = replace(found, packages=_others(recipe.title, inputs))
        parts.append(found)
    return Outline(target.id, None, tuple(parts))


def _of_distributions(part: Part, distributions: Sequence[Distribution]) -> Part:
    """A layer of wheels; what an sdist is built with is not in it."""
    files = tuple(item.artifact for item in distributions)
    return replace(
        part,
        weight=sum(file.size for file in files),
        files=files,
        packages=tuple(Package("distribution", item.name, item.version) for item in distributions),
    )


def _others(title: str, inputs: Inputs) -> tuple[Package, ...]:
    debs = {
        layer_recipes.BASE: inputs.debs,
        flavour_layers.debian_title(inputs.target.flavour): inputs.added_debs,
    }
    if title in debs:
        return tuple(Package("debian", deb.package, deb.version) for deb in debs[title])
    if title == layer_recipes.RUNTIME:
        return (Package("distribution", "roll-runtime", runtime_wheel.version()),)
    version = inputs.tools.version
    return (of_compiler(version),) if title == layer_recipes.compiler_title(version) else ()


def of_compiler(version: str) -> Package:
    """The CUDA compiler as one package."""
    return Package("toolkit", "cuda-compiler", version)


def of_image(name: str, image: Image) -> Outline:
    """The layers of an image in a store."""
    parts = tuple(Part(layer.title, "", layer.blob) for layer in image.layers)
    return Outline(name, image.manifest_digest, parts)


def find(name: str, matrix: Matrix, store: Store | None, compression: Compression) -> Outline:
    """The outline that a name stands for: of an image of the store, else of a target.

    Args:
        name: a target's id, or the digest of an image in the store or how it begins.
        matrix: the targets.
        store: where images may be.
        compression: of layers that are not made.

    Raises:
        UsageError: neither the store nor the matrix has it.
        LockError: the lock of a target that is not built is missing, stale or edited by hand.
    """
    ids = [target.id for target in matrix.targets]
    names = store.images() if store else {}
    if store and (name in names or name.startswith("sha256:")):
        found = of_image(name, store.load(name) if name in names else store.load_digest(name))
        return replace(found, renewed=name in ids and _is_renewed(found, matrix, name, store))
    if name in ids:
        return of_target(matrix, matrix.target(name), store, compression)
    raise suggest.no_image(name, ids, names, also=", or the digest of an image in the store")


def _is_renewed(built: Outline, matrix: Matrix, name: str, store: Store) -> bool:
    blob = built.parts[0].blob if built.parts else None
    compression: Compression = "zstd" if blob and blob.media_type.endswith("zstd") else "gzip"
    try:
        today = of_target(matrix, matrix.target(name), store, compression)
    except LockError:
        return True
    return today.identities != built.identities
