"""Paths in this checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "images" / "locks"
"""Locks that all targets share; those of targets are in the directory that their matrix names."""

ROLL_RUNTIME = ROOT / "roll_runtime"
"""The sources of the patch package."""

WHEELS_LOCK = ROOT / "tests" / "runtime" / "wheels.lock"
"""The wheels that the tests of `roll_runtime` read."""

RUNTIME_DOCUMENT = ROOT / "docs" / "roll-runtime.md"
"""The document with tables that `roll_runtime.tables` writes."""

SGLANG_VERSIONS = ROLL_RUNTIME / "src" / "roll_runtime" / "versions.py"
"""The table of SGLang versions that `roll_runtime` supports."""
