"""Requirements of the builder itself, checked before any other module of it is loaded.

Any Python 3 that a user tries may load this module: it keeps to the syntax of 3.8.
"""

from __future__ import annotations

import sys
from typing import NoReturn

OLDEST = (3, 10)
"""The oldest Python that runs the builder; `requires-python` in pyproject.toml has the same."""

EXIT_CODE = 8
"""The exit code of `errors.ToolError`: a program is missing."""

_SET_UP = "python3 -m venv .venv && . .venv/bin/activate && pip install ."


def missing() -> str:
    """Return why this Python cannot run the builder, with the remedy; empty if it can."""
    if sys.version_info < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return (
            f"build.py needs Python {oldest} or newer, and {sys.executable} is "
            f"{sys.version.split()[0]}: use Debian 12 or Ubuntu 22.04 or newer, or another python3"
        )
    if sys.platform == "win32":
        return "build.py needs Linux (on x86-64 to make layers); this is Windows: use WSL 2"
    return ""


def is_foreign(error: ModuleNotFoundError) -> bool:
    """Return whether a module that was not found belongs to another project."""
    name = (error.name or "").partition(".")[0]
    return bool(name) and name not in ("images", "tests", "build")


def absent(error: ModuleNotFoundError) -> str:
    """Return which package is not installed, with the remedy."""
    name = (error.name or "").partition(".")[0]
    return f"{sys.executable} has no package {name!r}, which build.py needs: {_SET_UP}"


def refuse(reason: str) -> NoReturn:
    """Print an error and exit.

    Raises:
        SystemExit: always.
    """
    print(f"error: {reason}", file=sys.stderr)
    raise SystemExit(EXIT_CODE)
