"""A layer's bytes from any source, checked against their digests while they are read."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from images.errors import IntegrityError
from images.oci.layer.read_ahead import ahead
from images.unbundle.document import BLOB, HELD, IncompleteError, Layer
from images.unbundle.sources import recipe
from images.unbundle.sources.holdings import Holdings
from images.unbundle.sources.parts import Parts
from images.unbundle.sources.zstd import Decompress
from images.util import untrusted_files

_CHUNK = 1 << 20
_PACKED = 1 << 16

Pieces = Iterator["bytes | memoryview"]


class PartsMissingError(IncompleteError):
    """Parts of a layer have not arrived."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(f"missing: {', '.join(missing)}")
        self.missing = missing


@dataclass(frozen=True)
class LayerSource:
    """An available layer.

    Attributes:
        tar: returns the layer's tar; raises IntegrityError at its end if its digest is not the
            layer's diff_id.
        blob: returns the compressed blob, checked in the same way; None if only the tar is
            available.
    """

    tar: Callable[[], Pieces]
    blob: Callable[[], Iterator[bytes]] | None


class LayerSources:
    """Layers in the parts and on the destination."""

    def __init__(self, parts: Parts, holdings: Holdings, zstd: Callable[[], Decompress]) -> None:
        self._parts, self._holdings, self._zstd = parts, holdings, zstd

    def find(self, layer: Layer) -> LayerSource:
        """Find a layer.

        Raises:
            PartsMissingError: parts of it have not arrived.
            IncompleteError: the destination should have it and does not.
        """
        missing = self._parts.lacking(layer)
        if layer.travels != HELD and not missing:
            if layer.travels == BLOB:
                return self._of_blob(layer, lambda: self._parts.read(layer))
            return self._of_recipe(layer)
        blob = self._holdings.find(layer.digest[7:], layer.size, layer.path)
        if blob is not None:
            found = blob
            return self._of_blob(layer, lambda: _content(found))
        tar = self._holdings.find(layer.diff_id[7:], 0, layer.path)
        if tar is not None:
            plain = tar
            return LayerSource(lambda: _verified(_content(plain), layer.diff_id), None)
        if missing:
            raise PartsMissingError(missing)
        raise IncompleteError(
            f"{layer.name}: the bundle was made for a machine that has this layer"
            + (f" at {layer.path}" if layer.path else "")
            + f" ({layer.digest}); it is not here",
            remedy="name the layout of an earlier bundle with --from DIR, or make the bundle again "
            "with this layer",
        )

    def _of_blob(self, layer: Layer, read: Callable[[], Iterator[bytes]]) -> LayerSource:
        def blob() -> Iterator[bytes]:
            return _verified(read(), layer.digest)

        def tar() -> Pieces:
            plain = self._decompress(layer)(ahead(blob()))
            return ahead(_verified(plain, layer.diff_id))

        return LayerSource(tar, blob)

    def _of_recipe(self, layer: Layer) -> LayerSource:
        def tar() -> Pieces:
            plain = self._decompress(layer)(ahead(self._parts.read(layer)))
            made = recipe.read(plain, self._holdings.file)
            return ahead(_verified(made, layer.diff_id))

        return LayerSource(tar, None)

    def _decompress(self, layer: Layer) -> Decompress:
        if layer.media_type.endswith("zstd"):
            return self._zstd()
        if layer.media_type.endswith("gzip"):
            return gunzip
        raise IntegrityError(f"unknown compression: {layer.media_type}")


def _verified(pieces: Pieces, digest: str) -> Iterator[bytes]:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
        yield piece  # type: ignore[misc]  # all readers accept a memoryview
    if f"sha256:{found.hexdigest()}" != digest:
        raise IntegrityError(
            f"its bytes have the digest sha256:{found.hexdigest()} instead of {digest}",
            remedy="make the bundle again",
        )


def gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress gzip of any number of members: parallel compressors write many."""
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for packed in _small(pieces):
            piece = packed
            while piece:
                if inflater.eof:
                    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
                yield inflater.decompress(piece, _CHUNK)
                piece = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    except zlib.error as error:
        raise IntegrityError(f"damaged gzip: {error}") from error
    if not inflater.eof:
        raise IntegrityError("damaged gzip: its end is missing")


def _small(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Split pieces: the rest of a piece is copied once for each small gzip member in it."""
    for piece in pieces:
        for at in range(0, len(piece), _PACKED):
            yield piece[at : at + _PACKED]


def _content(path: Path) -> Iterator[bytes]:
    with untrusted_files.open_regular(path) as stream:
        while True:
            piece = stream.read(_CHUNK)
            if not piece:
                return
            yield piece
