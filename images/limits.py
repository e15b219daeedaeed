"""How large a wheel or an sdist may become: beyond it is a bomb, not software.

The locks of all targets stay far below: 12,728 files (flashinfer-cubin), 1.7 GB (torch), 15 times
the file's own size (wcwidth), 8 MB of a file that is read as a whole (py-spy's program).
"""

from __future__ import annotations

from images.errors import IntegrityError

FILES = 50_000
UNPACKED = 16 << 30
"""Bytes of all files together."""

IN_MEMORY = 64 << 20
"""Bytes of a file that is read as a whole: Python source, script, metadata."""

_RATIO = 100
_SMALL = 100 << 20
"""Unpacked bytes for which no ratio is asked: a file of zeros is none the worse for it."""


def check(name: str, files: int, unpacked: int, packed: int) -> None:
    """Refuse what unpacks to more than software does.

    Args:
        name: the archive, for the message.
        files: how many it holds.
        unpacked: bytes of their content.
        packed: bytes of the archive.

    Raises:
        IntegrityError: it is over a limit; the message names it.
    """
    if files > FILES:
        raise IntegrityError(f"{name}: {files} files; {FILES} are the limit")
    if unpacked > UNPACKED:
        raise IntegrityError(f"{name}: unpacks to {unpacked} bytes; {UNPACKED} are the limit")
    if unpacked > max(_SMALL, _RATIO * packed):
        raise IntegrityError(
            f"{name}: unpacks to {unpacked} bytes, more than {_RATIO} times its size: a zip bomb"
        )
