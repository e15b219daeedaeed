"""Sdists in a resolution: what they require is read, and nothing of them runs."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.errors import LockError
from images.formats import sdist_metadata
from images.inputs.resolve import pylock, sdists, uv
from tests.faults.index import Index, serving
from tests.unit.wheels import write_wheel

RAN = """
import os
open({mark!r}, "w").close()
raise SystemExit("it ran")
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with serving() as state:
        monkeypatch.setenv("UV_DEFAULT_INDEX", state.url())
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
        yield state


def sdist(
    index: Index, mark: Path, name: str, requires: str, *, old: bool = False, version: str = "1.0"
) -> None:
    """Publish one whose build leaves a mark; an old one's requirements are setuptools' alone."""
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    lines = "" if old else "".join(f"Requires-Dist: {one}\n" for one in requires.splitlines())
    files = {
        "PKG-INFO": head + lines,
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "be"\n'
        'backend-path = ["."]\n',
        "be.py": RAN.format(mark=str(mark)),
        **({f"{name}.egg-info/requires.txt": requires} if old else {}),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{name}-{version}/{path}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    index.files[f"{name}-{version}.tar.gz"] = out.getvalue()


def wheels(index: Index, place: Path, *names: str) -> None:
    place.mkdir(exist_ok=True)
    for name in names:
        metadata = {f"{name}/__init__.py": b""}
        index.add(write_wheel(place, metadata, name=name))


def names(found: list[pylock.Locked]) -> list[str]:
    return [f"{item.name} {item.artifact.filename.rpartition('.')[2]}" for item in found]


@pytest.mark.parametrize("old", [False, True])
def test_requirements_of_an_sdist_are_followed_and_nothing_runs(
    index: Index, tmp_path: Path, old: bool
) -> None:
    sdist(index, tmp_path / "ran", "sourced", "one\ntwo" if old else "one\ntwo>=1", old=old)
    wheels(index, tmp_path / "wheels", "one", "two")
    found = sdists.resolve(uv.Request(["sourced"]), ["sourced"], tmp_path / "cache")
    assert names(found) == ["one whl", "sourced gz", "two whl"]
    assert not (tmp_path / "ran").exists()


def test_sdist_that_an_sdist_asks_for_is_followed_too(index: Index, tmp_path: Path) -> None:
    sdist(index, tmp_path / "ran", "first", "second")
    sdist(index, tmp_path / "ran", "second", "one")
    wheels(index, tmp_path / "wheels", "one")
    found = sdists.resolve(uv.Request(["first"]), ["first", "second"], tmp_path / "cache")
    assert names(found) == ["first gz", "one whl", "second gz"]
    assert not (tmp_path / "ran").exists()


def test_wheel_is_taken_of_what_may_come_as_an_sdist(index: Index, tmp_path: Path) -> None:
    sdist(index, tmp_path / "ran", "both", "nowhere")
    wheels(index, tmp_path / "wheels", "both")
    found = sdists.resolve(uv.Request(["both"]), ["both"], tmp_path / "cache")
    assert names(found) == ["both whl"]


def test_sdist_that_is_not_allowed_is_refused_and_does_not_run(
    index: Index, tmp_path: Path
) -> None:
    sdist(index, tmp_path / "ran", "stranger", "")
    wheels(index, tmp_path / "wheels", "one")
    with pytest.raises(LockError, match="stranger") as error:
        sdists.resolve(uv.Request(["one", "stranger"]), [], tmp_path / "cache")
    assert "`sdists:`" in (error.value.remedy or "")
    assert not (tmp_path / "ran").exists()


def test_locating_runs_nothing_of_what_the_index_has_today(index: Index, tmp_path: Path) -> None:
    sdist(index, tmp_path / "ran", "sourced", "")
    (locked,) = sdists.resolve(uv.Request(["sourced"]), ["sourced"], tmp_path / "cache")
    sdist(index, tmp_path / "ran", "sourced", "other")
    assert uv.locate({"sourced==1.0": locked.artifact}) == {}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("setting", ["", "UV_NO_CONFIG", "UV_CONFIG_FILE", "both"])
def test_the_users_settings_stay_whatever_is_stated(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    sdist(index, tmp_path / "ran", "sourced", "one")
    wheels(index, tmp_path / "wheels", "one")
    if setting == "UV_NO_CONFIG":
        monkeypatch.setenv(setting, "1")
    if setting == "both":
        monkeypatch.setenv("UV_NO_CONFIG", "false")
    if setting in ("UV_CONFIG_FILE", "both"):
        monkeypatch.delenv("UV_DEFAULT_INDEX")
        (tmp_path / "mine.toml").write_text(f'index-url = "{index.url()}"')
        monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "mine.toml"))
    found = sdists.resolve(uv.Request(["sourced"]), ["sourced"], tmp_path / "cache")
    assert names(found) == ["one whl", "sourced gz"]
    assert not (tmp_path / "ran").exists()


def test_settings_above_the_temporary_directory_do_not_count(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a shared machine anybody may write there, and would choose the index."""
    wheels(index, tmp_path / "wheels", "one")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "uv.toml").write_text("no-index = true\n")
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    assert names(uv.resolve(uv.Request(["one"]))) == ["one whl"]


def test_python_above_the_temporary_directory_does_not_run(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels(index, tmp_path / "wheels", "one")
    shared = tmp_path / "shared"
    (shared / ".venv" / "bin").mkdir(parents=True)
    (shared / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    for name in ("python", "python3"):
        path = shared / ".venv" / "bin" / name
        path.write_text(f'#!/bin/sh\ntouch {tmp_path}/ran\nexec /usr/bin/python3 "$@"\n')
        path.chmod(0o755)
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert names(uv.resolve(uv.Request(["one"]))) == ["one whl"]
    assert not (tmp_path / "ran").exists()


def test_index_without_upload_times_is_named_and_what_helps(index: Index, tmp_path: Path) -> None:
    wheels(index, tmp_path / "wheels", "one")
    page = json.loads(index.page("one") or b"")
    for file in page["files"]:
        del file["upload-time"]
    index.pages["one"] = json.dumps(page).encode()
    with pytest.raises(LockError, match=r"states no upload times \(PEP 700\)") as error:
        uv.resolve(uv.Request(["one"], exclude_newer="2025-01-01T00:00:00Z"))
    assert "build from the lock" in (error.value.remedy or "")


def test_file_that_is_too_new_is_no_matter_of_the_index(index: Index, tmp_path: Path) -> None:
    wheels(index, tmp_path / "wheels", "one")
    with pytest.raises(LockError, match="exclude-newer") as error:
        uv.resolve(uv.Request(["one"], exclude_newer="2020-01-01T00:00:00Z"))
    assert "PEP 700" not in error.value.message


# -- metadata of sdists ----------------------------------------------------------------------------

SECTIONS = """\
six>=1.4
[:python_version < "3"]
enum34

[fast]
numpy
[fast:sys_platform == "linux"]
uvloop
"""


def archive(place: Path, files: dict[str, str]) -> Path:
    path = place / "a-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"a-1.0/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def test_sections_of_setuptools_become_markers(tmp_path: Path) -> None:
    path = archive(tmp_path, {"PKG-INFO": "Name: a\n", "a.egg-info/requires.txt": SECTIONS})
    assert sdist_metadata.requires(path) == [
        "six>=1.4",
        'enum34; python_version < "3"',
        'numpy; extra == "fast"',
        'uvloop; sys_platform == "linux" and extra == "fast"',
    ]


@pytest.mark.parametrize(
    "files",
    [{}, {"PKG-INFO": "Requires-Dist: not a requirement!\n"}, {"a.egg-info/requires.txt": "!"}],
)
def test_documents_without_their_form_are_refused(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(LockError, match=r"a-1\.0\.tar\.gz: its requirements") as error:
        sdist_metadata.requires(archive(tmp_path, {"setup.py": "", **files}))
    assert "`wheels:`" in (error.value.remedy or "")
