"""Files that are written whole or not at all, alone or several together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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


def test_threads_write_the_same_file_and_one_of_them_is_there(tmp_path: Path) -> None:
    texts = [f"{number}" * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda text: atomic_file.write_text(tmp_path / "a", text), texts))
            assert (tmp_path / "a").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
