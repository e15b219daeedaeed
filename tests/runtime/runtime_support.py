"""What the runtime's tests share: paths, types, a clean environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import roll_runtime
from roll_runtime import policy

PACKAGE = Path(__file__).resolve().parents[2] / "roll_runtime"
DOCUMENT = PACKAGE.parent / "docs" / "roll-runtime.md"

assert roll_runtime.__file__ == str(PACKAGE / "src" / "roll_runtime" / "__init__.py")

#: A function from a version to a directory that holds SGLang's real files.
Trees = Callable[[str], Path]

#: Calls of the scheduler's handlers: each one's name, and the tags.
HandlerCalls = list[tuple[str, "list[str] | None"]]

#: A function from a version and such calls to what ``scheduler_run.py`` saw.
RunHandlers = Callable[..., dict[str, Any]]

#: A function that runs a scenario of ``engine_run.py`` and returns what it saw.
Run = Callable[..., dict[str, Any]]


def clean_environ() -> dict[str, str]:
    """Return this process's environment without anything that the tests are about."""
    names = {*policy.NAMES, "SGLANG_CACHE_DIR", "WORKER_NAME", "PYTHONPATH"}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in names and not name.startswith("ROLL_RUNTIME_")
    }


def run_module(python: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m roll_runtime`` in a clean environment."""
    return subprocess.run(
        [str(python), "-m", "roll_runtime", *arguments],
        env={**clean_environ(), **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
