"""An image as a set of part files with its own unpacker, for a machine without a registry.

A bundle is a directory: `bundle.json` (format: images/unbundle/document.py), `part-0000` and so on,
`unpack.py`, `inventory.py`, and the image's own libzstd for machines that have none. The parts are
one stream cut into pieces of a chosen size: the bytes of every layer that travels, lowest first.
The same image, options and inventories give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from images.errors import IntegrityError, StoreError, UsageError
from images.export.bundle import delta, directory, unpacker
from images.export.bundle.delta import Cut, Held
from images.oci.descriptor import Blob, Compression
from images.oci.image import Image
from images.oci.store.store import Store
from images.unbundle import document
from images.unbundle.document import BLOB, HELD, RECIPE, Bundle

MAX_PARTS = 100_000

_CHUNK = 1 << 20
_WORTH = 0.01
"""Share of a tar that must be saved: a layer that travels as a recipe loses its blob."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a layer travels.

    Attributes:
        how: `blob`, `recipe` or `held`.
        cut: for a recipe, what it leaves out.
        path: for a held layer, where it was seen at the destination; may be empty.
    """

    how: str
    cut: Cut | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle that was written.

    Attributes:
        bundle: what its document says.
        path: the directory.
        left_out: compressed bytes of the image that need not travel.
        left_out_layers: titles of layers that do not travel at all.
        recipes: titles of layers that travel in part.
    """

    bundle: Bundle
    path: Path
    left_out: int
    left_out_layers: tuple[str, ...]
    recipes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.bundle.parts)


def plan(
    store: Store,
    image: Image,
    known: Held,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Plan]:
    """Decide for each layer how it travels.

    Without single files that the destination has, no layer is read for this.

    Args:
        store: where the layers are.
        image: the image.
        known: what the destination has.
        jobs: layers that are read at a time.
        progress: told of the layers' compressed bytes as they are done.

    Raises:
        IntegrityError: a layer in the store is damaged.
    """

    def decide(blob: Blob) -> Plan:
        path = known.layer(blob)
        if path is not None:
            return Plan(HELD, path=path)
        if not known.sizes:
            return Plan(BLOB)
        found = delta.cut(store, blob, known)
        progress(blob.size)
        return Plan(RECIPE, found) if found.saved > _WORTH * found.length else Plan(BLOB)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(decide, (layer.blob for layer in image.layers)))


def write(
    store: Store,
    image: Image,
    out: Path,
    part_size: int,
    known: Held,
    plans: Sequence[Plan],
    progress: Callable[[int], None] = lambda _: None,
) -> Made:
    """Write the bundle. Its document comes last: without it there is no bundle.

    Args:
        store: where the layers are.
        image: the image.
        out: a new or empty directory, or one that holds a bundle, whole or not, to be replaced.
        part_size: bytes that a part has at most.
        known: what the destination has.
        plans: of `plan`, for each layer.
        progress: told of the layers' compressed bytes as they are done.

    Raises:
        UsageError: `out` holds something else, or there would be too many parts.
        IntegrityError: a layer in the store is damaged.
        StoreError: the disk is full or cannot be written.
    """
    if image.size / part_size > MAX_PARTS:
        raise UsageError(
            f"parts of {part_size} bytes: more than {MAX_PARTS} of them",
            remedy="choose a larger --part-size",
        )
    try:
        with directory.place(out):
            return _write(store, image, out, part_size, known, plans, progress)
    except OSError as error:
        raise StoreError(
            f"{out}: the bundle cannot be written: {error}",
            remedy="make room or name another place with --out DIR, and run the same command again",
        ) from error


def _write(
    store: Store,
    image: Image,
    out: Path,
    part_size: int,
    known: Held,
    plans: Sequence[Plan],
    progress: Callable[[int], None],
) -> Made:
    parts = directory.PartWriter(out, part_size)
    layers = []
    for number, (layer, how) in enumerate(zip(image.layers, plans, strict=True)):
        begin = parts.written
        for piece in _travelling(store, layer.blob, how, known):
            parts.write(piece)
        progress(layer.blob.size)
        blob = layer.blob
        layers.append(
            document.Layer(
                number,
                layer.title,
                blob.digest,
                blob.diff_id,
                blob.size,
                blob.media_type,
                how.how,
                begin,
                parts.written - begin,
                how.path,
            )
        )
    parts.end()
    files, needs = _tools(store, image)
    for name, content in files.items():
        directory.put(out / name, content, 0o755 if name.endswith(".py") else 0o644)
    bundle = Bundle(
        image.ref,
        image.manifest.decode(),
        image.config.decode(),
        tuple(layers),
        part_size,
        tuple(parts.parts),
        {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        needs,
    )
    directory.finish(out, document.encode(bundle))
    return Made(
        bundle,
        out,
        sum(layer.size - layer.length for layer in layers),
        tuple(layer.name for layer in layers if layer.travels == HELD),
        tuple(layer.name for layer in layers if layer.travels == RECIPE),
    )


def _tools(store: Store, image: Image) -> tuple[dict[str, bytes], str]:
    """What travels beside the parts, and what the libzstd among it needs."""
    files = unpacker.files()
    if not any(layer.blob.media_type.endswith("zstd") for layer in image.layers):
        return files, ""
    library = unpacker.libzstd(store, image)
    if library is None:
        return files, "one in the image's base, and there is none"
    return {**files, document.LIBZSTD: library}, unpacker.needs(library)


def _travelling(store: Store, blob: Blob, how: Plan, known: Held) -> Iterator[bytes]:
    if how.how == HELD:
        return iter(())
    if how.cut is None:
        return _blob(store, blob)
    compression: Compression = "zstd" if blob.media_type.endswith("zstd") else "gzip"
    return delta.write(store, blob, how.cut, known, compression)


def _blob(store: Store, blob: Blob) -> Iterator[bytes]:
    path = store.blob_path(blob.digest)
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
