"""The builder where Python or a package is missing: one line, and the exit code of a tool."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from images import requirements
from images.errors import ToolError
from images.repository import ROOT


def run(*python: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [*python, *(["-c", code] if code else [str(ROOT / "build.py"), "list"])]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_missing_packages_are_named_with_the_command_that_installs_them() -> None:
    code = "import sys; sys.path.insert(0, '.'); import build; sys.exit(build.main(['list']))"
    done = run(sys.executable, "-I", "-S", code=code)
    assert done.returncode == requirements.EXIT_CODE == ToolError.exit_code, done.stderr
    assert "no package 'yaml'" in done.stderr
    assert "pip install ." in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_module_of_the_project_is_not_reported_as_a_package() -> None:
    assert not requirements.is_foreign(ModuleNotFoundError(name="images.gone"))
    assert requirements.is_foreign(ModuleNotFoundError(name="yaml"))


@pytest.mark.parametrize("version", ["3.8", "3.9"])
def test_older_python_is_refused_by_its_version(version: str) -> None:
    python = shutil.which(f"python{version}")
    if python is None or run(python, code="").returncode == 127:
        pytest.skip(f"needs Python {version}")
    done = run(python)
    if "not found" in done.stderr:  # a stand-in of a version manager
        pytest.skip(f"needs Python {version}")
    assert done.returncode == requirements.EXIT_CODE
    assert f"is {version}." in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("path", [ROOT / "build.py", ROOT / "images" / "requirements.py"])
def test_what_older_python_reads_first_is_of_its_syntax(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_the_oldest_python_is_that_of_the_project() -> None:
    oldest = ".".join(map(str, requirements.OLDEST))
    assert f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text()
