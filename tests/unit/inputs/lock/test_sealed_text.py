"""The seal of a lock: what was written is read, and every change is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.errors import LockError
from images.inputs.lock import sealed_text
from images.util import sha256

INPUTS = sha256.of_json({"a": 1})
LINES = ["one==1 x", "two==2 y"]
REMEDY = "python build.py lock"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "lock.txt"
    path.write_text(sealed_text.seal(INPUTS, LINES), encoding="utf-8")
    return path


def of_inputs(path: Path, inputs: str) -> bool:
    try:
        return sealed_text.read(path, remedy="").inputs == inputs
    except LockError:
        return False


def refused(path: Path) -> str:
    with pytest.raises(LockError) as error:
        sealed_text.read(path, remedy=REMEDY)
    assert error.value.remedy == REMEDY
    assert error.value.message.startswith(str(path))
    return error.value.message


def test_sealed_lines_are_read(path: Path) -> None:
    assert sealed_text.read(path, remedy="") == sealed_text.Sealed(path, INPUTS, tuple(LINES))
    assert of_inputs(path, INPUTS)
    assert not of_inputs(path, sha256.of_json({"a": 2}))


@given(lines=st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]))))
def test_any_lines_come_back(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("lock") / "lock.txt"
    path.write_text(sealed_text.seal(INPUTS, lines), encoding="utf-8")
    assert list(sealed_text.read(path, remedy="").lines) == lines


def test_seal_is_the_same_each_time_and_depends_on_all() -> None:
    texts = [
        sealed_text.seal(INPUTS, LINES),
        sealed_text.seal("0" * 64, LINES),
        sealed_text.seal(INPUTS, LINES[:1]),
        sealed_text.seal(INPUTS, LINES[::-1]),
    ]
    assert texts[0] == sealed_text.seal(INPUTS, list(LINES))
    assert len(set(texts)) == 4


def test_any_flipped_bit_of_the_file_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        )
        assert not of_inputs(path, INPUTS)


@pytest.mark.parametrize(
    ("old", "new"),
    [("one==1", "one==9"), ("two==2 y\n", ""), ("two==2 y\n", "two==2 y"), ("y\n", "y\n\n"),
     ("one", "# note\none")],
)  # fmt: skip
def test_hand_edit_is_reported(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))
    assert "edited by hand" in refused(path)


def test_line_ends_that_git_changed_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    refused(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"one==1\n", b"\xff\xfe", b"\xef\xbb\xbf# Locked"])
def test_other_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused(path)


def test_missing_lock_and_directory_are_reported(path: Path) -> None:
    path.unlink()
    assert "no such lock" in refused(path)
    path.mkdir()
    assert "cannot be read" in refused(path)
