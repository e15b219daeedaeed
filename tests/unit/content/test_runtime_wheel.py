"""roll_runtime's wheel: its key follows from the sources, its bytes from nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from images.content import runtime_wheel
from images.errors import StoreError, ToolError
from images.formats import wheel_file


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, to be changed."""
    copy = tmp_path / "roll_runtime"
    shutil.copytree(runtime_wheel.SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(runtime_wheel, "SOURCE", copy)
    return copy


def built(workdir: Path) -> Path:
    workdir.mkdir()
    return runtime_wheel.build(workdir)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_wheel_is_valid_and_holds_the_package_and_its_pth(tmp_path: Path) -> None:
    wheel = built(tmp_path / "work")
    assert f"-{runtime_wheel.version()}-py3-none-any" in wheel.name
    with wheel_file.opened(wheel) as opened:
        found = {entry.path: entry.open().read() for entry in wheel_file.entries(opened)}
    names = {path.rpartition("site-packages/")[2] for path in found}
    assert {"roll_runtime/__init__.py", "roll_runtime.pth"} <= names


def test_same_bytes_whatever_umask_modes_times_and_zone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {sha256(built(tmp_path / "one"))}
    for path in source.rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (1, 1))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    former = os.umask(0o077)
    try:
        digests.add(sha256(built(tmp_path / "two")))
    finally:
        os.umask(former)
    assert len(digests) == 1


def test_what_tools_leave_behind_changes_neither_key_nor_wheel(
    source: Path, tmp_path: Path
) -> None:
    key, files = runtime_wheel.source_digest(), runtime_wheel.source_files()
    before = zipfile.ZipFile(built(tmp_path / "one")).namelist()
    package = source / "src" / "roll_runtime"
    for name in ("__pycache__/x.cpython-311.pyc", "old.pyc", "build/lib/x.py", "dist/a.whl",
                 ".mypy_cache/x", ".ruff_cache/x", "roll_runtime.egg-info/PKG-INFO"):  # fmt: skip
        for place in (source, package):
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"left behind")
    assert runtime_wheel.source_digest() == key
    assert runtime_wheel.source_files() == files
    assert zipfile.ZipFile(built(tmp_path / "two")).namelist() == before


def test_every_change_of_a_source_changes_the_key(source: Path) -> None:
    keys = {runtime_wheel.source_digest()}
    path = source / "src" / "roll_runtime" / "__init__.py"
    path.write_bytes(path.read_bytes() + b"\n")
    keys.add(runtime_wheel.source_digest())
    path.rename(path.with_name("renamed.py"))
    keys.add(runtime_wheel.source_digest())
    (source / "src" / "roll_runtime" / "new.py").touch()
    keys.add(runtime_wheel.source_digest())
    assert len(keys) == 4


def test_moving_bytes_from_one_file_to_the_next_changes_the_key(source: Path) -> None:
    one, two = (source / "src" / "roll_runtime" / name for name in ("zz_a.py", "zz_b.py"))
    keys = set()
    for first, second in ((b"ab", b""), (b"a", b"b"), (b"", b"ab")):
        one.write_bytes(first)
        two.write_bytes(second)
        keys.add(runtime_wheel.source_digest())
    assert len(keys) == 3


def test_place_of_the_sources_does_not_show(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = runtime_wheel.source_digest()
    other = source.with_name("moved")
    source.rename(other)
    monkeypatch.setattr(runtime_wheel, "SOURCE", other)
    assert runtime_wheel.source_digest() == there


def test_interpreter_at_a_path_that_is_not_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = built(tmp_path / "usual")
    monkeypatch.setattr(sys, "executable", os.fsdecode(b"/home/v\xff/bin/python"))
    assert sha256(built(tmp_path / "other")) == sha256(usual)


def test_sources_that_cannot_be_built_are_a_tool_error(source: Path, tmp_path: Path) -> None:
    (source / "pyproject.toml").write_text("[project]\nname = 5\n")
    with pytest.raises(ToolError, match="uv build"):
        built(tmp_path / "work")


def test_version_is_that_of_the_project(source: Path) -> None:
    project = source / "pyproject.toml"
    assert f'version = "{runtime_wheel.version()}"' in project.read_text()
    project.write_text("[project]\n")
    with pytest.raises(ToolError, match="no line"):
        runtime_wheel.version()


def test_full_disk_is_reported_with_the_store_among_those_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv_fails = tmp_path / "uv"
    uv_fails.write_text("#!/bin/sh\necho 'No space left on device (os error 28)' >&2\nexit 2\n")
    uv_fails.chmod(0o755)
    monkeypatch.setattr("images.inputs.resolve.uv.find", lambda: str(uv_fails))
    with pytest.raises(StoreError, match="the disk that holds the store") as raised:
        built(tmp_path / "work")
    assert raised.value.remedy is not None
    assert "--store DIR" in raised.value.remedy
