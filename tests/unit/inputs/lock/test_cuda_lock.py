from __future__ import annotations

from dataclasses import replace

import pytest

from images.errors import LockError
from images.inputs.compilers import BY_VERSION
from images.inputs.lock import cuda_lock
from images.inputs.matrix.load import load
from images.repository import ROOT


@pytest.mark.parametrize("version", BY_VERSION)
def test_the_lock_is_of_the_sources(version: str) -> None:
    tools, sources = cuda_lock.read(version), BY_VERSION[version]
    assert tools.version == version
    assert [str(deb) for deb in tools.debs] == [
        f"{name}={version}" for name, version in sources.debs.items()
    ]
    assert sorted(wheel.pin for wheel in tools.wheels) == sorted(sources.wheels)
    assert "://" not in cuda_lock.path_of(version).read_text()


@pytest.mark.parametrize("version", BY_VERSION)
def test_other_sources_make_the_lock_stale(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(BY_VERSION[version], wheels=("nvidia-cuda-nvcc-cu12==12.5.40",))
    monkeypatch.setattr(cuda_lock, "BY_VERSION", {version: other})
    with pytest.raises(LockError, match="stale"):
        cuda_lock.read(version)


def test_a_borrowed_runtime_is_the_file_that_the_targets_have() -> None:
    """Its headers are linked from there, so the two must not drift apart."""
    (runtime,) = (item for item in cuda_lock.read("13.0").wheels if "runtime" in item.name)
    for target in load(ROOT / "matrix.yaml").targets:
        if target.toolkit == "13.0":
            locked = (ROOT / "images" / "locks" / f"{target.id}.txt").read_text()
            assert runtime.artifact.sha256 in locked
