"""The programs of a bundle: `unpack.py`, one file that Python 3.8 runs, `inventory.py`, libzstd.

`unpack.py` is a zip of images/unbundle that Python runs (zipapp); no member is compressed, so it
can be read with any pager.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from contextlib import closing
from pathlib import Path

from images.oci.image import Image
from images.oci.layer.decompress import unpacked
from images.oci.layer.read_ahead import ahead
from images.oci.layer.tar_stream import REGULAR, TarStream
from images.oci.store.store import Store
from images.repository import ROOT
from images.unbundle.document import LIBZSTD, UNPACKER

INVENTORY = "inventory.py"

_PACKAGE = ROOT / "images"
_SHARED = {
    ".": ("errors", "printable"),
    "util": ("limits", "untrusted_files"),
    "oci/layer": ("pieces", "read_ahead", "tar_stream"),
}
"""Modules of the builder that the unpacker imports, by directory."""

_MAIN = "import sys\n\nfrom images.unbundle.cli import main\n\nsys.exit(main())\n"
_LIBZSTD = re.compile(r"(usr/)?lib/x86_64-linux-gnu/libzstd\.so\.1(\.\d+)*")
_GLIBC = re.compile(rb"\0GLIBC_2\.(\d+)(?=\0)")


def files() -> dict[str, bytes]:
    """Return the programs of every bundle, by name; the same bytes for the same sources."""
    inventory = (_PACKAGE / "unbundle" / "sources" / INVENTORY).read_bytes()
    return {UNPACKER: _zipped(), INVENTORY: inventory}


def modules() -> list[Path]:
    """Return the sources of `unpack.py`, which keep to Python 3.8 and the standard library."""
    shared = [
        _PACKAGE / folder / f"{name}.py" for folder, names in _SHARED.items() for name in names
    ]
    packages = {parent for path in shared for parent in path.parents if ROOT in parent.parents}
    return [
        *shared,
        *(package / "__init__.py" for package in packages),
        *_PACKAGE.glob("unbundle/**/*.py"),
    ]


def _zipped() -> bytes:
    out = io.BytesIO(b"#!/usr/bin/env python3\n")
    out.seek(0, io.SEEK_END)
    contents = {f"{path.relative_to(ROOT)}": path.read_bytes() for path in modules()}
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in sorted({**contents, "__main__.py": _MAIN.encode()}.items()):
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system = 3  # Unix, on whatever system this runs
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    return out.getvalue()


def files_for(store: Store, image: Image) -> tuple[dict[str, bytes], str]:
    """Return all files that a bundle of an image has beside its parts, and what libzstd needs.

    The second value is text for people: what the libzstd among the files needs of a machine, or why
    there is none; empty if no layer is zstd.
    """
    programs = files()
    if not any(layer.blob.media_type.endswith("zstd") for layer in image.layers):
        return programs, ""
    library = libzstd(store, image)
    if library is None:
        return programs, "one in the image's base, and there is none"
    return {**programs, LIBZSTD: library}, needs(library)


def libzstd(store: Store, image: Image) -> bytes | None:
    """Return the libzstd.so.1 of the image's base, from Debian's path; None if it has none."""
    below = len(image.layers) - len(image.own_layers)
    for layer in image.layers[: max(1, below)]:
        with closing(ahead(unpacked(store.blobs, layer.blob))) as pieces:
            tar = TarStream(pieces)
            for member in tar.members():
                name = posixpath.normpath(member.name)  # tars of other tools begin with ./
                if member.type in REGULAR and _LIBZSTD.fullmatch(name):
                    return b"".join(tar.content(member))
    return None


def needs(library: bytes) -> str:
    """Return, for people, what a library needs: the newest glibc symbol version that it names."""
    versions = [int(found) for found in _GLIBC.findall(library)]
    return f"x86-64 Linux with glibc 2.{max(versions)} or later" if versions else "x86-64 Linux"
