"""Wheels that the package index does not have: copied from a directory, found in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from images.errors import FetchError, IntegrityError, LockError, UsageError
from images.inputs.fetch import custom_wheels, needed_files
from images.inputs.fetch.needed_files import NeededFiles
from images.inputs.lock import target_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution
from images.inputs.matrix.records import CustomWheel, Matrix, Target
from images.inputs.resolve import file_urls, target_locks
from tests.unit.wheels import write_wheel

SIX = "six==1.17.0"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A real wheel of a version that no index has; it depends on one of the index's."""
    directory = tmp_path / "own"
    directory.mkdir()
    return write_wheel(
        directory,
        {"roll_demo_kernel.py": b"x = 1\n"},
        name="roll_demo_kernel",
        version="1.0+cu12",
        metadata="Requires-Dist: six\n",
    )


@pytest.fixture
def owner(target: Target, wheel: Path) -> Target:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return dataclasses.replace(
        target,
        requirements=(SIX,),
        exclude_newer="2025-01-01T00:00:00Z",
        wheels=(CustomWheel(wheel.name, digest, "not on the index", "my.yaml:70"),),
    )


def test_custom_wheel_is_locked_with_what_it_depends_on(
    matrix: Matrix,
    owner: Target,
    wheel: Path,
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    custom_wheels.add([owner], wheel.parent, cache)
    assert target_locks.write(matrix, owner, cache)
    found = target_lock.read(matrix, owner).distributions
    assert [(item.pin, item.custom) for item in found] == [
        ("roll-demo-kernel==1.0+cu12", "my.yaml:70"),
        (SIX, ""),
    ]
    assert found[0].artifact.size == wheel.stat().st_size
    # From now on the cache is enough.
    wheel.unlink()
    assert not target_locks.write(matrix, owner, cache)


def test_missing_custom_wheel_is_reported_with_its_line_and_makes_no_lock(
    matrix: Matrix,
    owner: Target,
    tmp_path: Path,
) -> None:
    with pytest.raises(FetchError, match=r"my\.yaml:70: roll_demo_kernel") as error:
        target_locks.write(matrix, owner, tmp_path / "cache")
    assert "--wheels DIR" in (error.value.remedy or "")
    assert not matrix.lock_path(owner.id).exists()


def test_file_with_another_hash_is_refused_and_not_kept(
    owner: Target, wheel: Path, tmp_path: Path
) -> None:
    wheel.write_bytes(b"something else")
    with pytest.raises(IntegrityError, match=r"SHA256 mismatch .*my\.yaml:70"):
        custom_wheels.add([owner], wheel.parent, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_truncated_file_is_refused_before_anything_resolves(
    owner: Target, wheel: Path, tmp_path: Path
) -> None:
    """Also where the matrix has the hash of the truncated file."""
    wheel.write_bytes(wheel.read_bytes()[:-40])
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (named,) = owner.wheels
    truncated = dataclasses.replace(owner, wheels=(named._replace(sha256=digest),))
    with pytest.raises(IntegrityError, match=r"my\.yaml:70: roll_demo.*not a valid wheel") as error:
        custom_wheels.add([truncated], wheel.parent, tmp_path / "cache")
    assert "whole file" in (error.value.remedy or "")
    assert not (tmp_path / "cache").exists()


def test_damaged_custom_wheel_in_the_cache_is_not_used_and_is_replaced(
    matrix: Matrix, owner: Target, wheel: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    custom_wheels.add([owner], wheel.parent, cache)
    (kept,) = cache.glob(f"*/{wheel.name}")
    kept.write_bytes(bytes(kept.stat().st_size))
    with pytest.raises(FetchError, match="damaged") as error:
        target_locks.write(matrix, owner, cache)
    assert "--wheels DIR" in (error.value.remedy or "")
    custom_wheels.add([owner], wheel.parent, cache)
    assert kept.read_bytes() == wheel.read_bytes()


def test_custom_wheel_whose_record_is_wrong_is_taken_if_the_matrix_says_so(
    owner: Target, wheel: Path, tmp_path: Path
) -> None:
    write_wheel(wheel.parent, {"x.py": b""}, name="roll_demo_kernel", version="1.0+cu12", record="")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (named,) = owner.wheels
    wrong = dataclasses.replace(owner, wheels=(named._replace(sha256=digest),))
    with pytest.raises(IntegrityError, match="not in RECORD") as error:
        custom_wheels.add([wrong], wheel.parent, tmp_path / "cache")
    assert "`misrecorded:`" in (error.value.remedy or "")
    allowed = dataclasses.replace(wrong, misrecorded=frozenset({"roll-demo-kernel"}))
    custom_wheels.add([allowed], wheel.parent, tmp_path / "cache")
    assert list((tmp_path / "cache").glob(f"*/{wheel.name}"))


@pytest.mark.parametrize(("name", "said"), [("none", "no such"), ("file", "not a")])
def test_not_a_directory_is_reported(owner: Target, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"--wheels .*/{name}: {said} directory"):
        custom_wheels.add([owner], tmp_path / name, tmp_path / "cache")


def test_wheel_that_the_resolution_does_not_take_is_refused(owner: Target) -> None:
    other = Distribution("roll-demo-kernel", "1.0", Artifact("x.whl", "b" * 64, 1))
    with pytest.raises(LockError, match=r"my\.yaml:70: roll_demo_kernel"):
        custom_wheels.check(owner, [other])


def test_no_index_is_asked_for_a_custom_wheel(owner: Target, tmp_path: Path) -> None:
    (named,) = owner.wheels
    file = Artifact(named.filename, named.sha256, 1)
    item = Distribution("roll-demo-kernel", "1.0+cu12", file, "my.yaml:70")
    absent = NeededFiles({file: item}, {})
    with pytest.raises(FetchError, match=r"my\.yaml:70: .*\.whl") as error:
        file_urls.locate(absent, None, tmp_path)
    assert "--wheels DIR" in (error.value.remedy or "")
    with pytest.raises(FetchError, match=r"my\.yaml:70"):
        raise needed_files.not_here(absent, tmp_path, "python build.py fetch")
