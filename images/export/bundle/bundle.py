"""An image as a set of part files with its own unpacker, for a machine without a registry.

A bundle is a directory: `bundle.json` (format: images/unbundle/document.py), `part-0000` and so on,
`unpack.py`, `inventory.py`, and the image's own libzstd for machines that have none. The parts are
one stream cut into pieces of a chosen size: the bytes of every layer that travels, lowest first.
The same image, options and inventories give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from images.errors import StoreError, UsageError
from images.export.bundle import directory, unpacker
from images.export.bundle.directory import PartWriter
from images.export.bundle.planning import Plan
from images.unbundle import document
from images.unbundle.document import HELD, RECIPE, Bundle

MAX_PARTS = 100_000


@dataclass(frozen=True, slots=True)
class WrittenBundle:
    """A bundle that was written.

    Attributes:
        bundle: the content of its `bundle.json`.
        path: the directory.
    """

    bundle: Bundle
    path: Path

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.bundle.parts)

    @property
    def left_out(self) -> int:
        """Compressed bytes of the image that need not travel."""
        return sum(layer.size - layer.length for layer in self.bundle.layers)

    @property
    def left_out_layers(self) -> tuple[str, ...]:
        """Titles of the layers that do not travel at all."""
        return self._named(HELD)

    @property
    def recipes(self) -> tuple[str, ...]:
        """Titles of the layers that travel in part."""
        return self._named(RECIPE)

    def _named(self, travels: str) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.bundle.layers if layer.travels == travels)


def write(
    plan: Plan, out: Path, part_size: int, progress: Callable[[int], None] = lambda _: None
) -> WrittenBundle:
    """Write the bundle. Its document comes last: without it there is no bundle.

    Args:
        plan: the image, and how its layers travel.
        out: a new or empty directory, or one with a bundle, complete or not, to be replaced.
        part_size: largest size of a part in bytes.
        progress: called with the compressed bytes of each layer when it is done.

    Raises:
        UsageError: `out` has other content, or there would be too many parts.
        IntegrityError: a layer in the store is damaged.
        StoreError: the disk is full or cannot be written.
    """
    if plan.image.size / part_size > MAX_PARTS:
        raise UsageError(
            f"parts of {part_size} bytes: more than {MAX_PARTS} of them",
            remedy="choose a larger --part-size",
        )
    try:
        with directory.writing(out):
            return _write(plan, out, part_size, progress)
    except OSError as error:
        raise StoreError(
            f"{out}: the bundle cannot be written: {error}",
            remedy="free some space or name another directory with --out DIR, and run the same "
            "command again",
        ) from error


def _write(plan: Plan, out: Path, part_size: int, progress: Callable[[int], None]) -> WrittenBundle:
    parts = PartWriter(out, part_size)
    layers = [_layer(plan, number, parts, progress) for number in range(len(plan.layers))]
    parts.end()
    files, needs = unpacker.files_for(plan.store, plan.image)
    for name, content in files.items():
        directory.put(out / name, content, 0o755 if name.endswith(".py") else 0o644)
    bundle = Bundle(
        ref=plan.image.ref,
        manifest=plan.image.manifest.decode(),
        config=plan.image.config.decode(),
        layers=tuple(layers),
        part_size=part_size,
        parts=tuple(parts.parts),
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        libzstd_needs=needs,
    )
    directory.finish(out, document.encode(bundle))
    return WrittenBundle(bundle, out)


def _layer(
    plan: Plan, number: int, parts: PartWriter, progress: Callable[[int], None]
) -> document.Layer:
    """Write what travels of a layer, and return its entry in the document."""
    layer, offset = plan.image.layers[number], parts.written
    for piece in plan.stream(number):
        parts.write(piece)
    progress(layer.blob.size)
    return document.Layer(
        number=number,
        title=layer.title,
        digest=layer.blob.digest,
        diff_id=layer.blob.diff_id,
        size=layer.blob.size,
        media_type=layer.blob.media_type,
        travels=plan.layers[number].travels,
        offset=offset,
        length=parts.written - offset,
        path=plan.layers[number].path,
    )
