"""Exceptions by which `zipfile` reports a corrupt or non-zip file."""

from __future__ import annotations

import zipfile
import zlib

MALFORMED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    ValueError,
    EOFError,
    RuntimeError,  # encrypted, or a compression method that no wheel uses
)
