"""Tables of text."""

from __future__ import annotations

from images.commands.report import printing


def test_columns_are_aligned_and_lines_end_without_blanks() -> None:
    text = printing.table([("a", "bb", ""), ("aaa", "b", "c")], indent=1)
    assert text.splitlines() == [" a    bb", " aaa  b   c"]
    assert printing.table([]) == ""
