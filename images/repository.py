"""Paths in this checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "images" / "locks"
"""Locks that all targets share; those of targets are in the directory that their matrix names."""

ROLL_RUNTIME = ROOT / "roll_runtime"
"""The sources of the patch package."""

SGLANG_VERSIONS = ROLL_RUNTIME / "src" / "roll_runtime" / "versions.py"
"""The table of SGLang versions that `roll_runtime` supports."""
