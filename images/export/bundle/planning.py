"""The plan of a bundle: each layer travels as its blob, as a recipe, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from images.errors import IntegrityError
from images.export.bundle import delta
from images.export.bundle.delta import Delta, Inventory
from images.oci.descriptor import Blob, Compression
from images.oci.image import Image
from images.oci.store.store import Store
from images.unbundle.document import BLOB, HELD, RECIPE

_CHUNK = 1 << 20
_WORTH = 0.01
"""Share of a tar that must be saved: a layer that travels as a recipe loses its blob."""


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """The way in which a layer travels.

    Attributes:
        travels: `blob`, `recipe` or `held`, as in `bundle.json`.
        delta: for a recipe, what it leaves out.
        path: for a held layer, its path in an inventory; may be empty.
    """

    travels: str
    delta: Delta | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The content of a bundle to be written.

    Attributes:
        store: where the layers are.
        image: the image.
        inventory: what the destination has.
        layers: a plan for each layer of the image, lowest first.
    """

    store: Store
    image: Image
    inventory: Inventory
    layers: tuple[LayerPlan, ...]

    def stream(self, number: int) -> Iterator[bytes]:
        """Return the bytes that a layer has in the parts, in pieces.

        Raises:
            IntegrityError: the layer in the store is missing or damaged.
        """
        layer, blob = self.layers[number], self.image.layers[number].blob
        if layer.travels == HELD:
            return iter(())
        if layer.delta is None:
            return _blob(self.store, blob)
        compression: Compression = "zstd" if blob.media_type.endswith("zstd") else "gzip"
        return delta.write(self.store, blob, layer.delta, self.inventory, compression)


def plan(
    store: Store,
    image: Image,
    inventory: Inventory,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Decide for each layer how it travels.

    If the inventory lists no single files, no layer is read for this.

    Args:
        store: where the layers are.
        image: the image.
        inventory: what the destination has.
        jobs: layers that are read at a time.
        progress: called with the compressed bytes of each layer when it is done.

    Raises:
        IntegrityError: a layer in the store is damaged.
    """

    def decide(blob: Blob) -> LayerPlan:
        path = inventory.layer(blob)
        if path is not None:
            return LayerPlan(HELD, path=path)
        if not inventory.sizes:
            return LayerPlan(BLOB)
        found = delta.find(store, blob, inventory)
        progress(blob.size)
        worth = found.saved > _WORTH * found.length
        return LayerPlan(RECIPE, found) if worth else LayerPlan(BLOB)

    with ThreadPoolExecutor(jobs) as pool:
        decided = pool.map(decide, (layer.blob for layer in image.layers))
        return Plan(store, image, inventory, tuple(decided))


def _blob(store: Store, blob: Blob) -> Iterator[bytes]:
    path = store.blobs.path(blob.digest)
    found = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as stream:
            while piece := stream.read(_CHUNK):
                found.update(piece)
                yield piece
    except FileNotFoundError as error:
        raise IntegrityError(f"{path}: a layer is missing", remedy="build the target again") from (
            error
        )
    if f"sha256:{found.hexdigest()}" != blob.digest:
        raise IntegrityError(
            f"{path}: a layer has the digest sha256:{found.hexdigest()}",
            remedy="python build.py gc --damaged, then build again",
        )
