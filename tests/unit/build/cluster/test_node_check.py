"""What is checked on a node of the cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from images.build.cluster import node_check
from images.build.cluster.tasks import Job
from images.repository import ROOT

JOB = Job("matrix/matrix.yaml", "zstd", "127.0.0.1:1/cache", True, None)


def test_missing_and_wrong_packages_are_named_with_the_command_that_installs_them() -> None:
    found = node_check.fault(["packaging>=24", "none-such>=1", "packaging==1.0"], JOB)
    assert found is not None
    cause, fix = found
    assert "no package none-such" in cause
    assert "is not ==1.0" in cause
    assert sys.executable in cause
    assert "requirements.txt" in fix


def test_cache_that_a_node_cannot_reach_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLL_IMAGES_CACHE", str(tmp_path))
    monkeypatch.setattr("images.content.debian.mmdebstrap.check", lambda: None)
    found = node_check.fault(["packaging>=24"], JOB)
    assert found is not None
    assert "127.0.0.1:1" in found[0]


def test_node_without_any_package_can_be_checked() -> None:
    code = (
        "import sys; from images.build.cluster import node_check as n; print(n.fault(['a'], None))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "no package packaging" in done.stdout
