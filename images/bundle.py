"""An image as a set of part files with its own unpacker, for a machine without a registry.

A bundle is a directory: `bundle.json` (format: images/unbundle/document.py), `part-0000` and so on,
`unpack.py`, `inventory.py`, and the image's own libzstd for machines that have none. The parts are
one stream cut into pieces of a chosen size: the bytes of every layer that travels, lowest first.
The same image, options and inventories give the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from images import held, unpacker
from images.errors import IntegrityError, StoreError, UsageError
from images.held import Cut, Held
from images.image import Image
from images.layer import Blob, Compression
from images.store import Store
from images.unbundle import document
from images.unbundle.document import BLOB, HELD, RECIPE, Bundle, Part

MAX_PARTS = 100_000
DEFAULT_PART_SIZE = 60_000_000

_CHUNK = 1 << 20
_WORTH = 0.01
"""Share of a tar that must be saved: a layer that travels as a recipe loses its blob."""

_MARK = ".bundle-unfinished"
_OURS = re.compile(
    r"part-\d{4,}|bundle\.json|unpack\.py|inventory\.py|libzstd\.so\.1|\.bundle-unfinished"
)


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


def plan(store: Store, image: Image, known: Held, jobs: int = 1) -> list[Plan]:
    """Decide for each layer how it travels.

    Without single files that the destination has, no layer is read for this.
    """

    def decide(blob: Blob) -> Plan:
        path = known.layer(blob)
        if path is not None:
            return Plan(HELD, path=path)
        if not known.sizes:
            return Plan(BLOB)
        found = held.cut(store, blob, known)
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
        raise UsageError(f"more than {MAX_PARTS} parts", remedy="choose a larger --part-size")
    try:
        with _place(out):
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
    parts = _PartWriter(out, part_size)
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
                blob.unpacked,
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
        _put(out / name, content, 0o755 if name.endswith(".py") else 0o644)
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
    _finish(out, document.encode(bundle))
    return Made(
        bundle,
        out,
        sum(layer.size - layer.length for layer in layers),
        tuple(layer.title for layer in layers if layer.travels == HELD),
        tuple(layer.title for layer in layers if layer.travels == RECIPE),
    )


def _tools(store: Store, image: Image) -> tuple[dict[str, bytes], str]:
    """What travels beside the parts, and what the libzstd among it needs."""
    files = unpacker.files()
    if not any(layer.blob.media_type.endswith("zstd") for layer in image.layers):
        return files, ""
    library = unpacker.libzstd(store, image)
    if library is None:
        return files, "one in the image's lowest layer, and there is none"
    return {**files, document.LIBZSTD: library}, unpacker.needs(library)


def _travelling(store: Store, blob: Blob, how: Plan, known: Held) -> Iterator[bytes]:
    if how.how == HELD:
        return iter(())
    if how.cut is None:
        return _blob(store, blob)
    compression: Compression = "zstd" if blob.media_type.endswith("zstd") else "gzip"
    return held.write(store, blob, how.cut, known, compression)


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


class _PartWriter:
    """Takes a stream and cuts it into files."""

    def __init__(self, directory: Path, part_size: int) -> None:
        self._directory, self._part_size = directory, part_size
        self._out: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._size = 0
        self.parts: list[Part] = []
        self.written = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece = view[: self._part_size - self._size]
            self._write(piece)
            view = view[len(piece) :]

    def _write(self, piece: memoryview) -> None:
        if self._out is None:
            self._out = (self._directory / self._name).open("wb")
        self._out.write(piece)
        self._hash.update(piece)
        self._size += len(piece)
        self.written += len(piece)
        if self._size == self._part_size:
            self.end()

    def end(self) -> None:
        """Finish the part that was begun, if one was."""
        if self._out is None:
            return
        _sync(self._out)
        self._out.close()
        self.parts.append(Part(self._name, self._size, self._hash.hexdigest()))
        self._out, self._hash, self._size = None, hashlib.sha256(), 0

    @property
    def _name(self) -> str:
        return f"part-{len(self.parts):04d}"


@contextmanager
def _place(out: Path) -> Iterator[None]:
    """The directory, emptied of an earlier bundle and marked until a new one is whole."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: not a directory", remedy="name another place with --out DIR")
    out.mkdir(parents=True, exist_ok=True)
    found = [path.name for path in out.iterdir()]
    known = {_MARK, document.NAME} & set(found)
    foreign = sorted(name for name in found if not _OURS.fullmatch(name))
    if found and (foreign or not known):
        raise UsageError(
            f"{out}: not empty, and not only a bundle: {', '.join((foreign or found)[:3])}",
            remedy="name another place with --out DIR",
        )
    descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{out}: another bundle is being written there") from None
        # In this order: at no time is there a document without all of its parts.
        (out / _MARK).touch()
        (out / document.NAME).unlink(missing_ok=True)
        for name in found:
            if name != _MARK:
                (out / name).unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def _finish(out: Path, content: bytes) -> None:
    # The marked directory becomes a bundle: the mark itself is what gets the document's name.
    _put(out / _MARK, content, 0o644)
    (out / _MARK).replace(out / document.NAME)


def _put(path: Path, content: bytes, mode: int) -> None:
    with path.open("wb") as out:
        out.write(content)
        _sync(out)
        os.fchmod(out.fileno(), mode)


def _sync(out: IO[bytes]) -> None:
    out.flush()
    os.fsync(out.fileno())
