"""The layers that images of a matrix share: their union compared with their sum.

The yardstick is what sharing whole wheels would allow: each wheel once, whatever shares its layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from images.analysis import summary
from images.analysis.summary import ImageSummary, LayerSummary
from images.build import prepare
from images.errors import LockError
from images.inputs.lock.artifact import Artifact
from images.inputs.matrix.records import Matrix
from images.oci.descriptor import COMPRESSIONS
from images.oci.store.store import Store


@dataclass(frozen=True, slots=True)
class Share:
    """Sizes of several things of which some are alike, in bytes.

    Attributes:
        sum: as if nothing were shared.
        union: what is alike counted once.
    """

    sum: int
    union: int

    @property
    def ratio(self) -> float:
        """The union as a part of the sum; 1 where there is nothing."""
        return self.union / self.sum if self.sum else 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """One target.

    Attributes:
        id: of the target.
        image: as it is in the store; None where it is not built.
        files: bytes of its locked wheels and sdists; None where its lock is missing or stale.
        alone: bytes of layers that no other image of the store has.
        budget: bytes that the image may have, if the matrix says.
    """

    id: str
    image: ImageSummary | None
    files: int | None
    alone: int
    budget: int | None


@dataclass(frozen=True, slots=True)
class Common:
    """A layer, and how many images of the store have it."""

    layer: LayerSummary
    images: int


@dataclass(frozen=True, slots=True)
class Sharing:
    """Sizes over a matrix and a store.

    Attributes:
        rows: all targets, in the matrix's order.
        images: of the layers of those that are built.
        whole_wheels: what the union would be if each wheel were a layer; compressed bytes.
        files: of the locked files of all targets, built or not.
        largest: layers of the images, the largest first.
    """

    rows: tuple[Row, ...]
    images: Share
    whole_wheels: int
    files: Share
    largest: tuple[Common, ...]

    @property
    def over(self) -> float:
        """By what part the union is larger than whole wheels allow."""
        return self.images.union / self.whole_wheels - 1 if self.whole_wheels else 0.0


def measure(matrix: Matrix, store: Store | None) -> Sharing:
    """Measure all targets of a matrix, as far as they are built or locked."""
    built = store.images() if store else {}
    names = [target.id for target in matrix.targets if target.id in built]
    loaded = store.load_several(names) if store else []
    images = {image.ref: summary.of_image(image.ref, image) for image in loaded}
    planned = _planned(matrix, store)
    files = {name: _files(found[0]) for name, found in planned.items()}
    counts = Counter(identity for image in images.values() for identity in set(image.identities))
    rows = tuple(
        Row(
            target.id,
            images.get(target.id),
            sum(file.size for file in files[target.id]) if target.id in files else None,
            _alone(images[target.id], counts) if target.id in images else 0,
            target.budget.size if target.budget else None,
        )
        for target in matrix.targets
    )
    layers = {layer.identity: layer for image in images.values() for layer in image.layers}
    union = sum(layer.size for layer in layers.values())
    return Sharing(
        rows,
        Share(sum(image.size for image in images.values()), union),
        whole_wheels(layers.values(), _contents(planned)),
        _share(files.values()),
        tuple(
            Common(layer, counts[layer.identity])
            for layer in sorted(layers.values(), key=lambda layer: (-layer.size, layer.title))
        ),
    )


def whole_wheels(layers: Iterable[LayerSummary], files: Mapping[str, Sequence[Artifact]]) -> int:
    """Return the bytes of different layers if each wheel in them were there once.

    A wheel's bytes in a layer of several are its part of the layer by the size of the wheel files;
    of several such values the smallest counts, so that the yardstick is never too long.

    Args:
        layers: layers, each identity once.
        files: by identity, the wheels in a layer; a layer that is not in it counts as a whole.
    """
    wheels: dict[str, float] = {}
    whole = 0
    for layer in layers:
        held = files.get(layer.identity, ())
        weight = sum(file.size for file in held)
        whole += 0 if held else layer.size
        for file in held:
            size = layer.size * file.size / weight
            wheels[file.sha256] = min(size, wheels.get(file.sha256, size))
    return whole + round(sum(wheels.values()))


def _planned(matrix: Matrix, store: Store | None) -> dict[str, list[ImageSummary]]:
    """Return the layers that a build of each locked target has, in each compression."""
    found, shared = {}, prepare.Shared(store)
    for target in matrix.targets:
        try:
            found[target.id] = [
                summary.of_target(matrix, target, store, compression, shared)
                for compression in COMPRESSIONS
            ]
        except LockError:
            continue  # `list` and `lock --check` report it; there is nothing to add up
    return found


def _contents(planned: Mapping[str, Sequence[ImageSummary]]) -> dict[str, tuple[Artifact, ...]]:
    return {
        layer.identity: layer.files
        for images in planned.values()
        for found in images
        for layer in found.layers
    }


def _files(planned: ImageSummary) -> list[Artifact]:
    return [file for layer in planned.layers for file in layer.files]


def _alone(image: ImageSummary, counts: Mapping[str, int]) -> int:
    return sum(layer.size for layer in image.layers if counts[layer.identity] == 1)


def _share(targets: Iterable[Sequence[Artifact]]) -> Share:
    every = [file for files in targets for file in files]
    different = {file.sha256: file.size for file in every}
    return Share(sum(file.size for file in every), sum(different.values()))
