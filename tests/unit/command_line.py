"""The command line, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from images.repository import ROOT

TARGET = "torch280-sglang052"


def cli(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "build.py"), *map(str, arguments)],
        cwd="/",
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def failed(code: int, *arguments: object) -> str:
    done = cli(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    return done.stderr


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def lock_of(matrix: Path) -> Path:
    return matrix.parent / "images" / "locks" / f"{TARGET}.txt"
