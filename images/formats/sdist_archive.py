"""Reading an sdist: a tar that gzip compressed."""

from __future__ import annotations

import errno
import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path

from images.errors import IntegrityError
from images.util import limits

MALFORMED = (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, RecursionError)
"""What reading an archive that is none raises."""


def unpacked(sdist: Path, destination: Path) -> Path:
    """The source tree, without links and devices, in modes that do not tell of a umask."""
    try:
        for archive, member in members(sdist):
            parts = member.name.split("/")
            if not (member.isfile() or member.isdir()) or ".." in parts or parts[0] == "":
                raise ValueError(f"{member.name}: a link, a device, or outside the source")
            # setuptools carries modes over into the wheel.
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            archive.extract(member, destination, set_attrs=False)
            (destination / member.name).chmod(member.mode)
        (source,) = (child for child in destination.iterdir() if child.is_dir())
    except MALFORMED as error:
        _raise_if_disk_full(error)
        raise IntegrityError(f"{sdist.name}: not an sdist: {error}") from error
    return source


def members(sdist: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an sdist, each with the archive that it can be read from.

    Raises:
        IntegrityError: it unpacks to more than software does.
        One of `MALFORMED`: it is not an sdist.
    """
    packed, unpacked = sdist.stat().st_size, 0
    with _Gzip(sdist) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for number, member in enumerate(archive, 1):
            unpacked += member.size
            limits.check(sdist.name, number, unpacked, packed)
            yield archive, member


class _Gzip(gzip.GzipFile):
    """An sdist as tarfile reads it: content in small pieces, and each head as a whole."""

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes."""
        if size is None or not 0 <= size <= limits.TAR_HEAD:
            raise tarfile.ReadError(f"a head of more than {limits.TAR_HEAD} bytes")
        return super().read(size)


def _raise_if_disk_full(error: Exception) -> None:
    """The disk is then at fault, not the sdist: whoever holds the working directory says so."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise error
