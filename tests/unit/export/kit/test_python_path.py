"""What the tests of a kit import: the machine's own modules, and the wheels of the kit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from images.errors import IntegrityError, ToolError
from images.export.kit.document import Kit
from images.export.kit.python_path import python_path
from images.util.sha256 import of_file
from tests.unit.bundles import PYTHON
from tests.unit.wheels import write_wheel


def test_wheels_are_installed_once_and_checked(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    wheel = write_wheel(tmp_path / "wheels", {"small/__init__.py": b""})
    work = tmp_path / "work"
    work.mkdir()
    kit = Kit((), "", "matrix.yaml", {wheel.name: of_file(wheel)})
    for _ in range(2):
        site = Path(python_path(kit, tmp_path, work).rpartition(":")[2])
        assert (site / "small/__init__.py").is_file()
        wheel.rename(tmp_path / "moved") if wheel.exists() else None
    with pytest.raises(IntegrityError, match="missing or damaged"):
        python_path(Kit((), "", "matrix.yaml", {wheel.name: "0" * 64}), tmp_path, work)


@pytest.mark.parametrize("options", ["-I -S", "-S"])
def test_missing_modules_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    """Those of the caller's directory, in which the suite does not run, are missing as well."""
    for module in ("packaging", "pytest", "yaml", "testinfra", "zstandard"):
        (tmp_path / f"{module}.py").touch()
    monkeypatch.chdir(tmp_path)
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {PYTHON} {options} "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(ToolError, match="need packaging, pytest, PyYAML, pytest-testinfra, zst"):
        python_path(Kit((), "", "matrix.yaml", {}), tmp_path, tmp_path)
