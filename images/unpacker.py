"""What a bundle brings to unpack it: `unpack.py`, one file that Python 3.8 runs, and libzstd.

`unpack.py` is a zip of images/unbundle (zipapp's form: Python runs it as it is); nothing in it is
compressed, so it can be read with any pager.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
from contextlib import closing
from pathlib import Path

from images.docker_archive import unpacked
from images.image import Image
from images.store import Store
from images.unbundle.ahead import ahead
from images.unbundle.document import UNPACKER
from images.unbundle.tar import REGULAR, TarStream

INVENTORY = "inventory.py"

_PACKAGE = Path(__file__).parent
_MODULES = ("__init__.py", "errors.py", "limits.py", "printable.py", "reading.py")
_MAIN = "import sys\n\nfrom images.unbundle.cli import main\n\nsys.exit(main())\n"
_LIBZSTD = re.compile(r"(usr/)?lib/x86_64-linux-gnu/libzstd\.so\.1(\.\d+)*")
_GLIBC = re.compile(rb"\0GLIBC_2\.(\d+)(?=\0)")


def files() -> dict[str, bytes]:
    """The programs of a bundle, by name; the same bytes for the same sources."""
    inventory = (_PACKAGE / "unbundle" / INVENTORY).read_bytes()
    return {UNPACKER: _zipped(), INVENTORY: inventory}


def _zipped() -> bytes:
    out = io.BytesIO(b"#!/usr/bin/env python3\n")
    out.seek(0, io.SEEK_END)
    modules = [*(_PACKAGE / name for name in _MODULES), *_PACKAGE.glob("unbundle/*.py")]
    contents = {f"images/{path.relative_to(_PACKAGE)}": path.read_bytes() for path in modules}
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in sorted({**contents, "__main__.py": _MAIN.encode()}.items()):
            info = zipfile.ZipInfo(name)  # dated 1980-01-01
            info.create_system = 3  # Unix, on whatever system this runs
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content)
    return out.getvalue()


def libzstd(store: Store, image: Image) -> bytes | None:
    """The libzstd.so.1 of the base, ours or an own one, where Debian puts it; None without one."""
    below = len(image.layers) - len(image.own_layers)
    for layer in image.layers[: max(1, below)]:
        with closing(ahead(unpacked(store, layer.blob))) as pieces:
            tar = TarStream(pieces)
            for member in tar.members():
                name = posixpath.normpath(member.name)  # others' tars begin with ./
                if member.type in REGULAR and _LIBZSTD.fullmatch(name):
                    return b"".join(tar.content(member))
    return None


def needs(library: bytes) -> str:
    """What a library needs of a machine, for people: the newest glibc symbol version it names."""
    versions = [int(found) for found in _GLIBC.findall(library)]
    return f"x86-64 Linux with glibc 2.{max(versions)} or later" if versions else "x86-64 Linux"
