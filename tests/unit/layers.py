"""Layers as tars: by our own writer, and such as only other tools write."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.oci.descriptor import Blob
from images.oci.image import Image, Layer
from images.oci.layer import writer
from images.oci.layer.entry import Entry
from images.oci.store.store import Store
from images.util.progress import Progress
from tests.image import unpack
from tests.unit import bundles

# -- tars ------------------------------------------------------------------------------------------


def tar_of(entries: Sequence[Entry]) -> bytes:
    out = io.BytesIO()
    writer.write(entries, out, "gzip")
    return gzip.decompress(out.getvalue())


def pieces(content: bytes, size: int = 700) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def cut_off(content: bytes) -> Iterator[bytes]:
    yield from pieces(content)
    raise KeyboardInterrupt


@dataclass(frozen=True)
class Member:
    """A member of a tar: a file by its content, a link by its target, or another kind."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    mode: int = 0o644


def directory(name: str, mode: int = 0o755) -> Member:
    return Member(name, kind=tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> Member:
    return Member(name, kind=tarfile.SYMTYPE, target=target)


def hard(name: str, target: str) -> Member:
    return Member(name, kind=tarfile.LNKTYPE, target=target)


def tar(members: Sequence[Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for item in members:
            info = tarfile.TarInfo(item.name)
            info.type, info.linkname, info.mode = item.kind, item.target, item.mode
            info.size = len(item.content)
            archive.addfile(info, io.BytesIO(item.content))
    return out.getvalue()


LOWER = [
    directory("./"),
    directory("./d"),
    Member("./d/file", b"low"),
    Member("./d/other", b"other"),
    directory("./d/sub"),
    Member("./d/sub/deep", b"deep"),
    link("./l", "d"),
    link("./abs", "/d/sub"),
]

BASE = (
    [*LOWER, Member("d/large", bundles.noise(300_000, 1))],
    [Member("d/.wh.file"), Member(".wh.l"), directory("closed", 0o500), Member("closed/f", b"c")],
    [Member("d/sub/.wh..wh..opq"), Member("d/sub/new", b"new"), link("now", "d/sub")],
)
"""Three layers of a base: the second and the third remove what is below."""


# -- blobs of a store ------------------------------------------------------------------------------


def of_members(layout: Store, *members: tarfile.TarInfo) -> Blob:
    """A layer that our own writer would never make."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return of_tar(layout, raw.getvalue())


def of_tar(layout: Store, content: bytes) -> Blob:
    compressed = writer.compressor("gzip")
    data = compressed.compress(content) + compressed.flush()
    digest = layout.blobs.put(data)
    diff_id = f"sha256:{hashlib.sha256(content).hexdigest()}"
    kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    return Blob(digest, diff_id, len(data), len(content), kind)


def unpacked(layout: Store, *blobs: Blob) -> Path:
    layers = tuple(Layer("layer", blob) for blob in blobs)
    return unpacked_image(layout, Image("x", layers, {}, {}, "2025-01-01T00:00:00Z"))


def unpacked_image(layout: Store, image: Image) -> Path:
    root = layout.path.parent / "root"
    with Path(os.devnull).open("w") as silent:
        unpack.unpack(layout, image, root, Progress(silent))
    return root


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o755
    return info
