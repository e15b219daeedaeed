"""The inventory of a bundle's destination, and the delta of a layer against it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from images.errors import IntegrityError, UsageError
from images.oci.descriptor import Blob, Compression
from images.oci.layer.decompress import unpacked
from images.oci.layer.pieces import Reader
from images.oci.layer.read_ahead import ahead
from images.oci.layer.tar_stream import REGULAR, TarStream
from images.oci.layer.writer import compressor
from images.oci.store.store import Store
from images.unbundle.sources import recipe
from images.util import limits, untrusted_json

_NEW_INVENTORY = "take it again: python3 inventory.py DIR... > FILE, at the destination"


@dataclass(frozen=True)
class Inventory:
    """The destination's files by content: whole layers and single files.

    Attributes:
        paths: the path of each file by its hexadecimal SHA-256; empty if no path is known, as for
            the layers of an earlier bundle.
        sizes: the sizes of listed files, in bytes.
    """

    paths: Mapping[str, str]
    sizes: frozenset[int]

    def layer(self, blob: Blob) -> str | None:
        """Return the path of a layer's blob or tar; None if the destination does not have it."""
        for digest in (blob.digest, blob.diff_id):
            if (path := self.paths.get(digest.removeprefix("sha256:"))) is not None:
                return path
        return None


@dataclass(frozen=True, slots=True)
class Copy:
    """A range of a layer's tar that is the content of a file of the destination."""

    offset: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Delta:
    """The files in a layer's tar that need not travel.

    Attributes:
        length: bytes of the whole tar.
        copies: the files that are left out, in the order of the tar.
    """

    length: int
    copies: tuple[Copy, ...]

    @property
    def saved(self) -> int:
        """Bytes of the tar that need not travel."""
        return sum(copy.size for copy in self.copies)


def read_inventories(files: Sequence[Path], layers: Iterable[str] = ()) -> Inventory:
    """Return the inventory of a destination.

    Args:
        files: as `inventory.py` writes them.
        layers: digests (`sha256:…`) of layers that an earlier bundle delivered.

    Raises:
        UsageError: a file cannot be read, is not an inventory, or is truncated.
    """
    paths: dict[str, str] = {digest.removeprefix("sha256:"): "" for digest in layers}
    sizes = set()
    for file in files:
        for sha256, size, path in _lines(file):
            paths[sha256] = path
            sizes.add(size)
    return Inventory(paths, frozenset(sizes))


def _lines(file: Path) -> Iterator[tuple[str, int, str]]:
    count = 0
    whole = False
    try:
        # It may be a pipe, if the user names one. But it must be lines, and have an end.
        with file.open("rb") as stream:
            while line := stream.readline(limits.INVENTORY_LINE):
                if count > limits.INVENTORY_LINES:
                    raise ValueError(f"more than {limits.INVENTORY_LINES} lines")
                record = untrusted_json.loads(line)
                if isinstance(record, dict):
                    whole = record["files"] == count
                    continue
                sha256, size, path = record
                if not (isinstance(sha256, str) and isinstance(size, int) and len(sha256) == 64):
                    raise TypeError(f"line {count + 1}")
                count += 1
                yield sha256, size, str(path)
    except OSError as error:
        raise UsageError(
            f"{file}: cannot be read: {error.strerror}", remedy=_NEW_INVENTORY
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: not an inventory: {error}", remedy=_NEW_INVENTORY) from error
    if not whole:
        raise UsageError(f"{file}: its end is missing", remedy=_NEW_INVENTORY)


def find(store: Store, blob: Blob, inventory: Inventory) -> Delta:
    """Find the files of a layer that the destination has. Only those of a known size are hashed."""
    copies = []
    with closing(ahead(unpacked(store.blobs, blob))) as pieces:
        tar = TarStream(_counted(pieces, total := [0]))
        for member in tar.members():
            if member.type in REGULAR and member.size in inventory.sizes:
                offset = tar.position
                found = hashlib.sha256()
                for piece in tar.content(member):
                    found.update(piece)
                if inventory.paths.get(found.hexdigest()):
                    copies.append(Copy(offset, member.size, found.hexdigest()))
    return Delta(total[0], tuple(copies))


def write(
    store: Store, blob: Blob, delta: Delta, inventory: Inventory, compression: Compression
) -> Iterator[bytes]:
    """Return the recipe of a layer, compressed, in pieces.

    Raises:
        IntegrityError: the blob in the store is not a compression of the layer's tar.
    """
    out = compressor(compression)
    with closing(ahead(unpacked(store.blobs, blob))) as pieces:
        for piece in _recipe(_checked(pieces, blob), delta, inventory):
            if made := out.compress(bytes(piece)):
                yield made
    yield out.flush()


def _recipe(
    pieces: Iterator[bytes], delta: Delta, inventory: Inventory
) -> Iterator[bytes | memoryview]:
    reader = Reader(pieces)
    for copy in delta.copies:
        yield from _stretch(reader, copy.offset - reader.tell())
        for _ in reader.take(copy.size):
            pass
        yield recipe.copy(copy.sha256, copy.size, inventory.paths[copy.sha256])
    yield from _stretch(reader, delta.length - reader.tell())
    reader.drain()


def _stretch(reader: Reader, length: int) -> Iterator[bytes | memoryview]:
    if length:
        yield recipe.stretch(length)
        yield from reader.take(length)


def _counted(pieces: Iterator[bytes], total: list[int]) -> Iterator[bytes]:
    for piece in pieces:
        total[0] += len(piece)
        yield piece


def _checked(pieces: Iterator[bytes], blob: Blob) -> Iterator[bytes]:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
        yield piece
    if f"sha256:{found.hexdigest()}" != blob.diff_id:
        raise IntegrityError(
            f"layer {blob.digest}: its tar is not the {blob.diff_id} of the image's config",
            remedy="python build.py gc --damaged, then build again",
        )
