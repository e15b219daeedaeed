"""Linters that are installed beside pytest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from images.repository import ROOT


def lint(*command: object) -> None:
    """Run one; what it finds is the failure's text."""
    program, *rest = map(str, command)
    found = shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found, f"no {program}; pip install '.[test]'"
    done = subprocess.run([found, *rest], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
