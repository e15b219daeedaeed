"""Several files that are written together, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from images.util import atomic_file


def test_all_are_written(tmp_path: Path) -> None:
    atomic_file.write_all({tmp_path / "a": "1", tmp_path / "b" / "c": "2"})
    assert (tmp_path / "a").read_text() == "1"
    assert (tmp_path / "b" / "c").read_text() == "2"
    assert len([*tmp_path.rglob("*")]) == 3


def test_one_that_cannot_be_written_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").touch()
    with pytest.raises(IsADirectoryError):
        atomic_file.write_all(
            {tmp_path / "a": "1", tmp_path / "new": "2", tmp_path / "directory": "3"}
        )
    assert (tmp_path / "a").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "directory"]
