"""The Python modules that the suite needs: the machine's own, and the wheels of the kit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from images.errors import IntegrityError, ToolError
from images.export.kit import document
from images.export.kit.document import Kit
from images.repository import ROOT
from images.util.sha256 import of_file

_NEEDS = {
    "packaging": "packaging",
    "pytest": "pytest",
    "PyYAML": "yaml",
    "pytest-testinfra": "testinfra",
    "zstandard": "zstandard",
}
"""Distributions that the suite imports, with their modules."""

_FIND = "import importlib.util as u, sys; print(*(m for m in sys.argv[1:] if not u.find_spec(m)))"


def python_path(kit: Kit, directory: Path, work: Path) -> str:
    """Return the PYTHONPATH of the suite, once all that it needs is there.

    Args:
        kit: the kit.
        directory: its directory.
        work: where its wheels are installed.

    Raises:
        IntegrityError: a wheel is missing or damaged.
        ToolError: a wheel cannot be installed, or a module is missing.
    """
    site = [_installed(kit, directory / document.WHEELS, work)] if kit.wheels else []
    found = os.pathsep.join(map(str, [ROOT, *site]))
    command = [sys.executable, "-c", _FIND, *_NEEDS.values()]
    env = {**os.environ, "PYTHONPATH": found}
    # As the suite, which does not run in the caller's directory: that may have modules of its own.
    lacking = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=True
    ).stdout
    if names := [name for name, module in _NEEDS.items() if module in lacking.split()]:
        raise ToolError(
            f"the tests need {', '.join(names)}: {sys.executable} lacks them",
            remedy="install them, or make the kit with their wheels: build.py prove --wheels DIR",
        )
    return found


def _installed(kit: Kit, wheels: Path, work: Path) -> Path:
    name = sha256(repr(sorted(kit.wheels.items())).encode()).hexdigest()[:16]
    site = work / f"site-{name}"
    if site.is_dir():
        return site
    for wheel, digest in kit.wheels.items():
        path = wheels / Path(wheel).name
        if not path.is_file() or of_file(path) != digest:
            raise IntegrityError(f"{path}: missing or damaged", remedy="send it again")
    unfinished = work / "site-unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
    command += ["--target", str(unfinished), *(str(wheels / wheel) for wheel in kit.wheels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(
            f"the kit's wheels cannot be installed:\n{done.stderr.strip()}",
            remedy=f"make the kit with wheels for Python {sys.version.split()[0]}",
        )
    unfinished.rename(site)
    return site
