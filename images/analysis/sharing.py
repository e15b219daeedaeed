"""What the images of a matrix share: the union of their layers against their sum.

The yardstick is what sharing whole wheels would allow: each wheel once, whatever shares its layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from images.analysis import summary
from images.analysis.summary import Outline, Part
from images.build import prepare
from images.errors import LockError
from images.inputs.lock.artifact import Artifact
from images.inputs.matrix.matrix import Matrix
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
        image: as it lies in the store; None where it is not built.
        files: bytes of its locked wheels and sdists; None without a lock that is of today.
        alone: bytes of layers that no other image of the store has.
        budget: bytes that the image may have, if the matrix says.
    """

    id: str
    image: Outline | None
    files: int | None
    alone: int
    budget: int | None


@dataclass(frozen=True, slots=True)
class Common:
    """A layer, and how many images of the store have it."""

    part: Part
    images: int


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a matrix and a store come to.

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
    """Sizes over all targets of a matrix, as far as they are built or locked."""
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
    parts = {part.identity: part for image in images.values() for part in image.parts}
    union = sum(part.size for part in parts.values())
    return Sharing(
        rows,
        Share(sum(image.size for image in images.values()), union),
        whole_wheels(parts.values(), _contents(planned)),
        _share(files.values()),
        tuple(
            Common(part, counts[part.identity])
            for part in sorted(parts.values(), key=lambda part: (-part.size, part.title))
        ),
    )


def whole_wheels(parts: Iterable[Part], files: Mapping[str, Sequence[Artifact]]) -> int:
    """What different layers would come to if each wheel in them were there once.

    A wheel's bytes in a layer of several are its part of the layer by the size of the wheel files;
    of several such values the smallest counts, so that the yardstick is never too long.

    Args:
        parts: layers, each identity once.
        files: by identity, the wheels in a layer; a layer that is not there counts as a whole.
    """
    wheels: dict[str, float] = {}
    whole = 0
    for part in parts:
        held = files.get(part.identity, ())
        weight = sum(file.size for file in held)
        whole += 0 if held else part.size
        for file in held:
            size = part.size * file.size / weight
            wheels[file.sha256] = min(size, wheels.get(file.sha256, size))
    return whole + round(sum(wheels.values()))


def _planned(matrix: Matrix, store: Store | None) -> dict[str, list[Outline]]:
    """What a build of each locked target would make, in each compression."""
    found, shared = {}, prepare.Shared(store)
    for target in matrix.targets:
        try:
            found[target.id] = [
                summary.of_target(matrix, target, store, compression, shared)
                for compression in COMPRESSIONS
            ]
        except LockError:
            continue  # `list` and `lock --check` say so; there is nothing to add up
    return found


def _contents(planned: Mapping[str, Sequence[Outline]]) -> dict[str, tuple[Artifact, ...]]:
    return {
        part.identity: part.files
        for outlines in planned.values()
        for found in outlines
        for part in found.parts
    }


def _files(planned: Outline) -> list[Artifact]:
    return [file for part in planned.parts for file in part.files]


def _alone(image: Outline, counts: Mapping[str, int]) -> int:
    return sum(part.size for part in image.parts if counts[part.identity] == 1)


def _share(targets: Iterable[Sequence[Artifact]]) -> Share:
    every = [file for files in targets for file in files]
    different = {file.sha256: file.size for file in every}
    return Share(sum(file.size for file in every), sum(different.values()))
