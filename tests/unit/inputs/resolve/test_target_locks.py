"""Making target locks: what is refused, and the real index."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from images.errors import LockError
from images.inputs.lock import target_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution
from images.inputs.matrix.records import Matrix, Pin, Sdist, Target
from images.inputs.resolve import target_locks, uv
from tests.unit.wheels import write_wheel

SHA = "ab" * 32
LINE = f"demo==1.0 --hash=sha256:{SHA}  # demo-1.0-py3-none-any.whl 12"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of wheels that is all that uv sees."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(directory))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return directory


def test_local_index_without_sizes_is_refused(
    index: Path, matrix: Matrix, target: Target, tmp_path: Path
) -> None:
    write_wheel(index, {"demo.py": b""})
    target = dataclasses.replace(target, exclude_newer="2099-01-01T00:00:00Z")
    with pytest.raises(LockError) as error:
        target_locks.write(matrix, target, tmp_path)
    assert "demo" in error.value.message
    assert not matrix.lock_path(target.id).exists()


def locked(*names: str) -> tuple[Distribution, ...]:
    return tuple(
        Distribution(name, version, Artifact(filename, SHA, 1))
        for name, version, filename in (text.split() for text in names)
    )


def test_sdist_that_the_matrix_does_not_allow_is_refused(target: Target) -> None:
    found = locked("a 1 a-1-py3-none-any.whl", "b 1 b-1.tar.gz", "c 2 c-2.zip")
    with pytest.raises(LockError, match=r"no wheel fits the image for b==1, c==2") as error:
        target_locks.check(target, found)
    assert "sdists" in (error.value.remedy or "")
    allowed = (Sdist("b", (), ""), Sdist("c", (), ""))
    target_locks.check(dataclasses.replace(target, sdists=allowed), found)


@pytest.mark.parametrize("name", ["nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime"])
def test_torch_for_another_cuda_is_refused(target: Target, name: str) -> None:
    right, wrong = f"{target.cuda}.90", "11.8.89"
    target_locks.check(target, locked(f"{name} {right} x.whl"))
    with pytest.raises(LockError, match=r"is built for CUDA 11\.8") as error:
        target_locks.check(target, locked(f"{name} {wrong} x.whl"))
    assert "cuda: '11.8'" in (error.value.remedy or "")


# -- the real index --------------------------------------------------------------------------------


def test_real_index_gives_a_lock_that_is_whole_and_repeats(
    matrix: Matrix, target: Target, tmp_path: Path
) -> None:
    small = dataclasses.replace(
        target,
        requirements=("six==1.17.0", "colorama"),
        constraints=(Pin("colorama<0.4.6", ""),),
        exclude_newer="2025-01-01T00:00:00Z",
    )
    assert target_locks.write(matrix, small, tmp_path)
    assert not target_locks.write(matrix, small, tmp_path)
    found = target_lock.read(matrix, small)
    assert [item.pin for item in found.distributions] == ["colorama==0.4.5", "six==1.17.0"]
    assert found.distributions[1].artifact == Artifact(
        "six-1.17.0-py2.py3-none-any.whl",
        "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274",
        11050,
    )
    wanted = {item.pin: item.artifact for item in found.distributions}
    assert uv.locate(wanted).keys() == set(wanted.values())


def test_real_index_without_a_solution_is_reported_by_uvs_message(
    matrix: Matrix, target: Target, tmp_path: Path
) -> None:
    impossible = dataclasses.replace(target, requirements=("six==1.17.0", "six==1.16.0"))
    with pytest.raises(LockError, match=r"(?s)uv pip compile failed:.*six==1\.1[67]\.0"):
        target_locks.write(matrix, impossible, tmp_path)
    assert not matrix.lock_path(target.id).exists()
