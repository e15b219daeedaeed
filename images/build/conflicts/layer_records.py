"""The RECORDs in a layer: the files that each distribution in it contains, with published hashes.

Of a distribution that is changed as it is installed, `MODIFIED.json` has the published hashes, also
of the files that are left out: a comparison is of what was published, as it is without the layer.
They are kept beside a store's layers, so that the files of a target can be compared without its
wheels. For a layer that was made before they were kept, they are read from the layer itself.
"""

from __future__ import annotations

import csv
import posixpath
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress

from packaging.utils import canonicalize_name

from images import image_paths
from images.build.conflicts.detection import InstalledFiles
from images.content.python import bytecode
from images.formats import wheel_changes
from images.oci.descriptor import Blob
from images.oci.layer.entry import Entry
from images.oci.store.store import Store

_RECORD = re.compile(
    re.escape(image_paths.SITE_PACKAGES) + r"/(?P<name>[^/]+)-[^/-]+\.dist-info/RECORD"
)
_ENDINGS = (".dist-info/RECORD", f".dist-info/{wheel_changes.NOTE}")


class RecordCollector:
    """Collects the RECORDs among the entries of a layer as they pass."""

    def __init__(self) -> None:
        self._found: list[tuple[str, bytes]] = []

    def passing(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries, unchanged."""
        for entry in entries:
            if entry.path.endswith(_ENDINGS):
                with entry.open() as stream:
                    self._found.append((entry.path, stream.read()))
            yield entry

    def dump(self) -> bytes:
        """Return what was collected, for `parse`."""
        return _dump(self._found)


def of_layer(store: Store, key: str, blob: Blob) -> list[InstalledFiles]:
    """Return the files that the distributions in a layer of the store install.

    Raises:
        IntegrityError: the layer must be read and is damaged.
    """
    if kept := store.layer_keys.records(key):
        with suppress(zlib.error):  # a power loss may leave it torn
            return list(parse(kept))
    kept = _dump(_inside(store, blob))
    store.layer_keys.keep_records(key, kept)
    return list(parse(kept))


def parse(kept: bytes) -> Iterator[InstalledFiles]:
    """Parse the distributions of a document of `RecordCollector.dump`."""
    text = zlib.decompress(kept).decode()
    parts = {path: content for path, _, content in map(_split, text.split("\0"))}
    for path, record in parts.items():
        if found := _RECORD.fullmatch(path):
            note = parts.get(f"{posixpath.dirname(path)}/{wheel_changes.NOTE}", "")
            hashes = dict(_rows(record)) | dict(_published(note))
            yield InstalledFiles(
                canonicalize_name(found["name"]), tuple(hashes), _hashes_of(hashes)
            )


def _hashes_of(hashes: Mapping[str, str]) -> Callable[[Iterable[str]], dict[str, str]]:
    return lambda paths: {path: hashes[path] for path in paths}


def _split(part: str) -> tuple[str, str, str]:
    return part.partition("\n")


def _published(note: str) -> Iterator[tuple[str, str]]:
    """Yield path and published hash of each file that is changed or left out."""
    for path, digest in wheel_changes.published(note).items():
        yield path, digest.removeprefix("sha256=")


def _rows(record: str) -> Iterator[tuple[str, str]]:
    """Parse the path in the image and the hash of each file but RECORD itself."""
    for path, digest, _ in csv.reader(record.splitlines()):
        if digest:
            installed = posixpath.normpath(f"{image_paths.SITE_PACKAGES}/{path}")
            algorithm, _, value = digest.partition("=")
            if not bytecode.is_code(installed):
                yield installed, value if algorithm == "sha256" else digest


def _dump(found: Iterable[tuple[str, bytes]]) -> bytes:
    parts = (f"{path}\n".encode() + record for path, record in found)
    return zlib.compress(b"\0".join(parts), 1)


def _inside(store: Store, blob: Blob) -> Iterator[tuple[str, bytes]]:
    from images.oci.layer.decompress import unpacked
    from images.oci.layer.read_ahead import ahead
    from images.oci.layer.tar_stream import TarStream

    with closing(ahead(unpacked(store.blobs, blob))) as pieces:
        tar = TarStream(pieces)
        for member in tar.members():
            if member.name.endswith(_ENDINGS):
                yield member.name, b"".join(bytes(piece) for piece in tar.content(member))
