"""The tar that a Docker daemon loads an image from, generated while it is sent.

Two forms, because daemons have two kinds of image store. Memory is bounded: a layer is sent in
pieces of a megabyte, without a second copy on disk.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.errors import IntegrityError
from images.oci.descriptor import INDEX_TYPE, MANIFEST_TYPE, Blob
from images.oci.image import Image
from images.oci.layer.decompress import REMEDY, unpacked
from images.oci.layer.tar_header import MTIME
from images.oci.store.store import Store

_CHUNK = 1 << 20
_CONTAINERD_NAME = "io.containerd.image.name"


@dataclass(frozen=True, slots=True)
class Archive:
    """An image and the layers of it that are sent.

    Attributes:
        store: where the layers are.
        image: the image.
        left_out: numbers of the layers that the daemon has.
        keep_zstd: whether the daemon can read zstd; all can read gzip.
    """

    store: Store
    image: Image
    left_out: frozenset[int] = frozenset()
    keep_zstd: bool = True

    @property
    def sent(self) -> tuple[Blob, ...]:
        """The layers that are sent, lowest first."""
        return tuple(
            layer.blob
            for number, layer in enumerate(self.image.layers)
            if number not in self.left_out
        )

    @property
    def size(self) -> int:
        """Compressed bytes of the layers that are sent."""
        return sum(blob.size for blob in set(self.sent))

    def keeps(self, blob: Blob) -> bool:
        """Return whether a layer is sent as it is in the store; otherwise it is sent as a tar."""
        return self.keep_zstd or not blob.media_type.endswith("zstd")


def transfer_size(archive: Archive) -> int:
    """Return the bytes to send; those of a layer sent as a tar may be unknown and estimated."""
    return sum(
        blob.size if archive.keeps(blob) else blob.unpacked or blob.size
        for blob in set(archive.sent)
    )


def docker_archive(archive: Archive) -> Iterator[bytes]:
    """Return an archive in the form of `docker save`, for daemons with a graph driver.

    A layer that the daemon has is named and not sent: load opens the file of a layer only if the
    daemon does not have its chain. Layers are sent as they are in the store, if the daemon can read
    them.
    """
    image = archive.image
    config = f"{_hex(image.config_digest)}.json"
    layers = [f"{_hex(layer.blob.diff_id)}.tar" for layer in image.layers]
    manifest = [{"Config": config, "Layers": layers, "RepoTags": None}]
    yield _member("manifest.json", json.dumps(manifest).encode())
    yield _member(config, image.config)
    for blob in dict.fromkeys(archive.sent):
        name = f"{_hex(blob.diff_id)}.tar"
        if archive.keeps(blob):
            yield from _file(name, blob.size, _raw(archive.store.blobs.path(blob.digest)))
        else:
            # A tar member's header has its size: it must be known before the bytes are sent.
            size = blob.unpacked or sum(map(len, unpacked(archive.store.blobs, blob)))
            yield from _file(name, size, unpacked(archive.store.blobs, blob))
    yield bytes(2 * tarfile.BLOCKSIZE)


def oci_archive(archive: Archive, names: Sequence[str]) -> Iterator[bytes]:
    """Return an OCI image layout as a tar, for the containerd image store, which keeps blobs.

    The image has the same manifest digest there as in the store and in a registry. Its names are
    full, e.g. `docker.io/library/roll-sglang:latest`; without one, the daemon keeps an unnamed
    image even after it is tagged.
    """
    image = archive.image
    descriptor: dict[str, Any] = {
        "digest": image.manifest_digest,
        "mediaType": MANIFEST_TYPE,
        "platform": {"architecture": "amd64", "os": "linux"},
        "size": len(image.manifest),
    }
    named = [{**descriptor, "annotations": {_CONTAINERD_NAME: name}} for name in names]
    index = {"manifests": named or [descriptor], "mediaType": INDEX_TYPE, "schemaVersion": 2}
    yield _member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    yield _member("index.json", json.dumps(index).encode())
    for content, digest in (
        (image.manifest, image.manifest_digest),
        (image.config, image.config_digest),
    ):
        yield _member(f"blobs/sha256/{_hex(digest)}", content)
    for blob in dict.fromkeys(archive.sent):
        pieces = _raw(archive.store.blobs.path(blob.digest))
        yield from _file(f"blobs/sha256/{_hex(blob.digest)}", blob.size, pieces)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _raw(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as stream:
            while piece := stream.read(_CHUNK):
                yield piece
    except OSError as error:
        raise IntegrityError(f"{path}: a layer cannot be read: {error}", remedy=REMEDY) from error


def _file(name: str, size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield _head(name, size)
    sent = 0
    for piece in pieces:
        sent += len(piece)
        yield piece
    if sent != size:
        raise IntegrityError(f"{name}: {sent} bytes instead of {size}", remedy=REMEDY)
    yield bytes(-size % tarfile.BLOCKSIZE)


def _member(name: str, content: bytes) -> bytes:
    return _head(name, len(content)) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def _head(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, MTIME
    return info.tobuf(tarfile.PAX_FORMAT)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
