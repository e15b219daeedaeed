"""Reader of sdists: tars compressed with gzip."""

from __future__ import annotations

import errno
import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path

from images.errors import IntegrityError
from images.util import limits

MALFORMED = (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, RecursionError)
"""Exceptions by which `tarfile` and `gzip` report a corrupt or foreign file."""


def unpacked(sdist: Path, destination: Path) -> Path:
    """Unpack the source tree and return its path.

    It has neither links nor devices, and its modes do not depend on the umask.

    Args:
        sdist: the `.tar.gz`.
        destination: a missing directory.

    Raises:
        IntegrityError: the file is not an sdist.
        OSError: the disk is full.
    """
    try:
        for archive, member in members(sdist):
            parts = member.name.split("/")
            if not (member.isfile() or member.isdir()) or ".." in parts or parts[0] == "":
                raise ValueError(f"{member.name}: a link, a device, or outside the source")
            # setuptools copies modes into the wheel.
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            archive.extract(member, destination, set_attrs=False)
            (destination / member.name).chmod(member.mode)
        (source,) = (child for child in destination.iterdir() if child.is_dir())
    except MALFORMED as error:
        _raise_if_disk_full(error)
        raise IntegrityError(f"{sdist.name}: not an sdist: {error}") from error
    return source


def members(sdist: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of an sdist, each with the archive to read it from.

    Raises:
        IntegrityError: it has more or larger files than software has.
        One of `MALFORMED`: it is not an sdist.
    """
    packed, unpacked = sdist.stat().st_size, 0
    with _Gzip(sdist) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        # `unpacked` refuses what the filters of Python 3.12 and later would, on all versions.
        archive.extraction_filter = _unchanged
        for number, member in enumerate(archive, 1):
            unpacked += member.size
            limits.check(sdist.name, number, unpacked, packed)
            yield archive, member


def _unchanged(member: tarfile.TarInfo, _: str) -> tarfile.TarInfo:
    return member


class _Gzip(gzip.GzipFile):
    """The decompressed stream for tarfile, which reads content in pieces and each header whole."""

    def read(self, size: int | None = -1) -> bytes:
        """Return at most `size` bytes."""
        if size is None or not 0 <= size <= limits.TAR_HEAD:
            raise tarfile.ReadError(f"a header of more than {limits.TAR_HEAD} bytes")
        return super().read(size)


def _raise_if_disk_full(error: Exception) -> None:
    """Raise a full disk's error again: the caller knows the directory and reports it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error
