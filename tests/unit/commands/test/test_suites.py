"""`test` where there is no GPU, and without pytest."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from images.attest import evidence
from images.oci.store.store import Store
from images.repository import ROOT
from tests.unit.command_line import TARGET, cli


def test_gpu_tests_fail_where_there_is_no_gpu(matrix: Path, store: Store) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("a GPU is here")
    given = ("--matrix", matrix, "--store", store.path, "--backend", "rootfs")
    done = cli("test", "--target", TARGET, "--gpu", *given, "--", "-k", "doctor")
    assert done.returncode == 10
    assert "no NVIDIA GPU here" in done.stdout
    assert "no evidence kept: no GPU was seen" in done.stdout
    assert not evidence.path_of(matrix, TARGET).exists()
    named = "nvcc_kernel or triton_kernel and not of_the_image"
    done = cli("test", "--target", TARGET, *given, "--", "-k", named)
    assert done.returncode == 0, done.stdout
    assert "2 skipped" in done.stdout


WITHOUT_PYTEST = """
import runpy, sys
sys.modules["pytest"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_missing_pytest_is_reported_in_one_line() -> None:
    """In a Python that has what builds images and no more."""
    build = [str(ROOT / "build.py"), "test", "--target", TARGET]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYTEST, *build], capture_output=True, text=True, check=False
    )
    install = shlex.join([sys.executable, "-m", "pip", "install", f"{ROOT}[test]"])
    assert done.returncode == 8
    assert done.stderr.splitlines() == [
        "error: the tests of an image need pytest, which this Python does not have",
        f"fix: {install}",
    ]
