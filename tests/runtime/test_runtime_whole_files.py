"""Files that several writers make at once, or one that fails."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from roll_runtime import whole_files

CONTENT = b"source " * 4096


def test_writers_of_one_process_number_do_not_meet(tmp_path: Path) -> None:
    """As in containers that share a volume: threads have one process number too."""
    path, faults = tmp_path / "cache" / "file", []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(50):
            try:
                whole_files.write(path, CONTENT)
                assert whole_files.holds(path, CONTENT)
            except Exception as error:
                faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert [item.name for item in path.parent.iterdir()] == ["file"]


def test_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        whole_files.write(tmp_path / "file", CONTENT)
    assert list(tmp_path.iterdir()) == []


def test_what_a_file_holds(tmp_path: Path) -> None:
    whole_files.write(tmp_path / "file", CONTENT)
    assert whole_files.holds(tmp_path / "file", CONTENT)
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    assert not whole_files.holds(tmp_path / "file", CONTENT)
    assert not whole_files.holds(tmp_path / "missing", CONTENT)
