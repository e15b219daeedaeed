"""What a bundle's destination has already, and which files of a layer are among it."""

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
class Held:
    """What the destination has, by content; whole layers and single files alike.

    Attributes:
        paths: by hexadecimal SHA-256, where it was seen; empty where nobody saw it, as for the
            layers of an earlier bundle.
        sizes: of the files that were seen, in bytes.
    """

    paths: Mapping[str, str]
    sizes: frozenset[int]

    def layer(self, blob: Blob) -> str | None:
        """Where a layer's blob or tar was seen; None if the destination does not have it."""
        for digest in (blob.digest, blob.diff_id):
            if (path := self.paths.get(digest.removeprefix("sha256:"))) is not None:
                return path
        return None


@dataclass(frozen=True, slots=True)
class Copy:
    """A stretch of a layer's tar that is a file of the destination."""

    offset: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A layer's tar with what the destination has taken out of it.

    Attributes:
        length: bytes of the whole tar.
        copies: what is taken out, in the order of the tar.
    """

    length: int
    copies: tuple[Copy, ...]

    @property
    def saved(self) -> int:
        """Bytes of the tar that need not travel."""
        return sum(copy.size for copy in self.copies)


def held(inventories: Sequence[Path], layers: Iterable[str] = ()) -> Held:
    """What inventories list, and layers that are there from an earlier bundle.

    Args:
        inventories: as `inventory.py` writes them.
        layers: digests, `sha256:…`.

    Raises:
        UsageError: an inventory cannot be read, is none, or was cut off.
    """
    paths: dict[str, str] = {digest.removeprefix("sha256:"): "" for digest in layers}
    sizes = set()
    for inventory in inventories:
        for sha256, size, path in _lines(inventory):
            paths[sha256] = path
            sizes.add(size)
    return Held(paths, frozenset(sizes))


def _lines(inventory: Path) -> Iterator[tuple[str, int, str]]:
    count = 0
    whole = False
    try:
        # It may be a pipe: whoever named it knows. But it must be lines, and have an end.
        with inventory.open("rb") as stream:
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
            f"{inventory}: cannot be read: {error.strerror}", remedy=_NEW_INVENTORY
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{inventory}: not an inventory: {error}", remedy=_NEW_INVENTORY
        ) from error
    if not whole:
        raise UsageError(f"{inventory}: its end is missing", remedy=_NEW_INVENTORY)


def cut(store: Store, blob: Blob, known: Held) -> Cut:
    """Find the files of a layer that the destination has. Only those of a known size are hashed."""
    copies = []
    with closing(ahead(unpacked(store, blob))) as pieces:
        tar = TarStream(_counted(pieces, total := [0]))
        for member in tar.members():
            if member.type in REGULAR and member.size in known.sizes:
                offset = tar.position
                found = hashlib.sha256()
                for piece in tar.content(member):
                    found.update(piece)
                if known.paths.get(found.hexdigest()):
                    copies.append(Copy(offset, member.size, found.hexdigest()))
    return Cut(total[0], tuple(copies))


def write(
    store: Store, blob: Blob, layer_cut: Cut, known: Held, compression: Compression
) -> Iterator[bytes]:
    """The recipe of a layer, compressed, in pieces.

    Raises:
        IntegrityError: the blob in the store does not hold the tar that it should.
    """
    out = compressor(compression)
    with closing(ahead(unpacked(store, blob))) as pieces:
        for piece in _recipe(_checked(pieces, blob), layer_cut, known):
            if made := out.compress(bytes(piece)):
                yield made
    yield out.flush()


def _recipe(pieces: Iterator[bytes], layer_cut: Cut, known: Held) -> Iterator[bytes | memoryview]:
    reader = Reader(pieces)
    for copy in layer_cut.copies:
        yield from _stretch(reader, copy.offset - reader.tell())
        for _ in reader.take(copy.size):
            pass
        yield recipe.copy(copy.sha256, copy.size, known.paths[copy.sha256])
    yield from _stretch(reader, layer_cut.length - reader.tell())
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
