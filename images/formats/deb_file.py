"""Reader of .deb files without dpkg: an `ar` archive of two compressed tars.

The format is fixed by deb(5): the members `debian-binary`, `control.tar.*` and `data.tar.*`, in
this order. Only the standard library is used, so a .deb can be read on any host.
"""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

from images.errors import IntegrityError
from images.formats import tar_entries
from images.oci.layer.tar_stream import REGULAR, TarStream
from images.util import limits, untrusted_files

_CHUNK = 1 << 14
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_DAMAGED = (
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
    EOFError,
    ValueError,  # numbers in a tar's headers, and text that is not UTF-8
    OverflowError,
)


def control(path: Path) -> str:
    """Return the control paragraph of a .deb, as in Debian's `Packages` files.

    Raises:
        IntegrityError: the file is not a .deb.
    """
    with _tar(path, "control.tar") as tar:
        for member in tar.members():
            if member.name.removeprefix("./") == "control" and member.type in REGULAR:
                return _content(path, tar, member).decode("utf-8").rstrip("\n") + "\n"
    raise _broken(path, "no control file")


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, Callable[[], bytes]]]:
    """Yield the files of a .deb in archive order, each with a function that reads its content.

    A member's name has no leading `./`. Its content can be read only until the next member is
    requested; that of anything but a regular file is empty.

    Raises:
        IntegrityError: the file is not a .deb; also from reading a content.
    """
    with _tar(path, "data.tar") as tar:
        for member in tar.members():
            member.name = member.name.removeprefix("./")
            yield member, partial(_content, path, tar, member)


def _content(path: Path, tar: TarStream, member: tarfile.TarInfo) -> bytes:
    with _damage_reported(path):  # callers of `members` read outside of `_tar`
        if member.type not in REGULAR:
            return b""
        limits.check_count(member.name, member.size, limits.DEB_MEMBER, "bytes")
        return b"".join(tar.content(member))


@contextmanager
def _tar(path: Path, name: str) -> Iterator[TarStream]:
    full_name, start, size = _find_member(path, name)
    with tar_entries.part(path, start, size) as packed, _damage_reported(path):
        stream = _decompressed(packed, full_name)
        yield TarStream(iter(lambda: stream.read(_CHUNK), b""))


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise _broken(path, error.message) from error
    except _DAMAGED as error:
        raise _broken(path, str(error)) from error


def _find_member(path: Path, prefix: str) -> tuple[str, int, int]:
    """Return the name, offset and size of the member whose name starts with `prefix`."""
    with untrusted_files.open_regular(path) as archive:
        if archive.read(len(_AR_MAGIC)) != _AR_MAGIC:
            raise _broken(path, "it does not start like an ar archive")
        while len(header := archive.read(_AR_HEADER)) == _AR_HEADER:
            name = header[:16].decode("ascii", "replace").rstrip().rstrip("/")
            size = header[48:58].strip()
            if not size.isdigit():
                raise _broken(path, "the size of a member is not a number")
            if name.startswith(prefix):
                return name, archive.tell(), int(size)
            archive.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise _broken(path, f"it has no {prefix}.*")


def _decompressed(stream: IO[bytes], name: str) -> IO[bytes]:
    """Return the rest of `stream`, decompressed; bytes behind the tar's end marker are not read.

    Raises:
        ValueError: the compression is none that packages of bookworm and trixie use.
    """
    suffix = name.partition(".tar")[2]
    if suffix == "":
        return stream
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if suffix == ".xz":
        return cast("IO[bytes]", lzma.LZMAFile(stream))
    raise ValueError(f"cannot read {name}")


def _broken(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"{path}: not a .deb: {why}", remedy="remove the file, so that it is downloaded again"
    )
