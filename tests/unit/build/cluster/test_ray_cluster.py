"""The connection to a Ray cluster, as far as it needs no Ray; the rest is in tests/integration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from images.build.cluster import ray_cluster
from images.errors import ToolError


def test_missing_ray_is_reported_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ToolError, match="needs the package ray") as found,
        ray_cluster.connected("head:6379", tmp_path),
    ):
        raise AssertionError
    assert "pip install 'ray[client]==VERSION'" in (found.value.remedy or "")
