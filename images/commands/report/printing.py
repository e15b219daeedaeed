"""Tables of text for people, and one JSON document for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from typing import Any

from images import printable
from images.util import output


def print_documents(documents: Sequence[dict[str, Any]], several: str = "images") -> None:
    """Print the document of one image or target as it is, of several an object that lists them.

    Args:
        documents: one for each.
        several: the list's name.
    """
    print_json(documents[0] if len(documents) == 1 else {several: documents})


def print_json(document: dict[str, Any]) -> None:
    """Print a document on standard output."""
    output.result(json.dumps(document, indent=1))


def print_summary(options: argparse.Namespace, summary: str) -> None:
    """Print the text on a result: on standard error if `--json` prints a document."""
    (output.message if options.json else output.result)(summary)


def table(
    rows: Sequence[Sequence[str]],
    *,
    indent: int = 0,
    right: Collection[int] = (),
    least: Sequence[int] = (),
) -> str:
    """Return rows of text in aligned columns; control characters in a cell are escaped.

    Args:
        rows: all with the same number of cells.
        indent: spaces before each row.
        right: the numbers of right-aligned columns.
        least: minimum widths of the columns, so that several tables look like one.
    """
    if not rows:
        return ""
    rows = [[printable.line(cell) for cell in row] for row in rows]
    found = widths(rows)
    wide = [max(pair) for pair in zip(found, least or found, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(wide[column]) if column in right else cell.ljust(wide[column])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in rows
    )
    return "\n".join(" " * indent + line for line in lines)


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]
