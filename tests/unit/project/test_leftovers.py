"""What a test run leaves on the machine: nothing, unless a test failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from images.repository import ROOT

TESTS = """
def test_here(tmp_path):
    (tmp_path / "large").write_bytes(bytes(1 << 20))

def test_of_a_session(tmp_path_factory):
    place = tmp_path_factory.mktemp("store") / "large"
    place.write_bytes(bytes(1 << 20))
    assert {outcome}
"""


@pytest.mark.parametrize(("outcome", "left"), [("True", 0), ("False", 1 << 20)])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_only_what_failed_is_kept(tmp_path: Path, outcome: str, left: int, workers: str) -> None:
    (tmp_path / "test_x.py").write_text(TESTS.format(outcome=outcome))
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", workers]
    command += ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={tmp_path}", str(tmp_path)]
    for _ in range(2):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DEBUG_TEMPROOT": str(tmp_path / "tmp")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (outcome == "False"), done.stdout + done.stderr
    kept = sum(path.stat().st_size for path in (tmp_path / "tmp").rglob("large"))
    assert kept <= left
