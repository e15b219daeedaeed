"""Lines added to the matrix, to roll_runtime's table and to the lock of wheels."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from images.errors import MatrixError
from images.inputs.lock.artifact import Artifact
from images.inputs.release import insertions
from images.inputs.release.published import Release
from images.repository import SGLANG_VERSIONS, WHEELS_LOCK

MATRIX = """\
targets:
  # the first
  - id: a
    sglang: 0.5.2
    flavours: [] # none
    overrides:
      - pin: x==1
        # a comment inside
        why: a reason

  # the second
  - id: b
    sglang: 0.5.9
"""
ROW = "  - id: new\n    sglang: 0.5.4\n"


def test_row_comes_after_the_older_one_and_before_the_comment_of_the_next() -> None:
    assert insertions.after_row(MATRIX, 3, ROW) == MATRIX.replace(
        "        why: a reason\n", f"        why: a reason\n\n{ROW}"
    )
    assert insertions.after_row(MATRIX, 12, ROW) == f"{MATRIX}\n{ROW}"


def test_row_older_than_all_comes_first() -> None:
    assert insertions.before_row(MATRIX, 3, ROW) == MATRIX.replace("  - id: a", f"{ROW}\n  - id: a")


def test_keys_are_copied_with_their_comments() -> None:
    found = insertions.blocks(MATRIX, 3, ("overrides", "gpus"))
    assert found == (
        "    overrides:\n      - pin: x==1\n        # a comment inside\n        why: a reason\n"
    )
    assert insertions.blocks(MATRIX, 3, ("flavours",)) == "    flavours: [] # none\n"
    assert insertions.blocks(MATRIX, 12, ("overrides",)) == ""


def test_another_layout_is_refused() -> None:
    with pytest.raises(MatrixError, match="not indented by two spaces"):
        insertions.after_row("targets: [{id: a}]\n", 1, ROW)


def test_real_table_gets_one_line_at_its_place() -> None:
    table = SGLANG_VERSIONS.read_text()
    new = insertions.release_line(table, "0.5.11", fp8=True)
    line = '    Release("0.5.11", fp8=True, roll=False),'
    lines = new.splitlines()
    assert (
        lines.index(line) == lines.index('    Release("0.5.10.post1", fp8=True, roll=False),') + 1
    )
    assert new.replace(f"{line}\n", "") == table
    assert insertions.release_line(table, "0.5.2", fp8=False) == table


def test_fp8_is_that_of_the_release_before() -> None:
    table = SGLANG_VERSIONS.read_text()
    assert insertions.has_fp8(table, "0.5.11")
    assert not insertions.has_fp8(table, "0.5.13")
    assert not insertions.has_fp8(table, "0.1.0")


def test_lock_of_wheels_gets_one_line() -> None:
    lock = WHEELS_LOCK.read_text()
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for version in ("0.1.0", "0.5.11", "9.0"):
        file = Artifact(f"sglang-{version}-py3-none-any.whl", "ab" * 32, 7)
        new = insertions.wheel_line(lock, Release(version, file, "", moment))
        line = f"sglang=={version} --hash=sha256:{'ab' * 32} # {file.filename} 7\n"
        assert new.replace(line, "") == lock != new
