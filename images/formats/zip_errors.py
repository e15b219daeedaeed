"""By what `zipfile` tells that a zip is damaged, or is none."""

from __future__ import annotations

import zipfile
import zlib

MALFORMED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    ValueError,
    EOFError,
    RuntimeError,  # encrypted, or a compression method that nobody uses for wheels
)
