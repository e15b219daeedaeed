"""Lines added to files that people write: comments and layout stay as they are."""

from __future__ import annotations

import re

from packaging.version import Version

from images.errors import MatrixError
from images.inputs.release.published import PACKAGE, Release

_RELEASE = re.compile(r'    Release\("(?P<version>[^"]+)", fp8=(?P<fp8>True|False), roll=\w+\),')
_WHEEL = re.compile(rf"{PACKAGE}==(?P<version>\S+) ")


def release_line(table: str, version: str, *, fp8: bool) -> str:
    """Return `versions.py` with a release, unless it is there.

    ROLL's own dispatch knows exactly the releases that the table names so: no other.
    """
    return _inserted(table, _RELEASE, version, f'    Release("{version}", fp8={fp8}, roll=False),')


def has_fp8(table: str, version: str) -> bool:
    """Return whether the newest release of `versions.py` up to a version has FP8 on load."""
    rows = [found for line in table.splitlines() if (found := _RELEASE.fullmatch(line))]
    before = [row for row in rows if Version(row["version"]) <= Version(version)]
    return bool(before) and before[-1]["fp8"] == "True"


def wheel_line(lock: str, release: Release) -> str:
    """Return `wheels.lock` with the wheel of a release, unless it is there."""
    file = release.artifact
    pin = f"{PACKAGE}=={release.version}"
    line = f"{pin} --hash=sha256:{file.sha256} # {file.filename} {file.size}"
    return _inserted(lock, _WHEEL, release.version, line)


def after_row(matrix: str, line: int, row: str) -> str:
    """Return a matrix with a row after the one that begins at a line, with a blank line between."""
    lines = matrix.splitlines()
    end = row_end(lines, line)
    return "\n".join([*lines[:end], "", *row.splitlines(), *lines[end:], ""])


def before_row(matrix: str, line: int, row: str) -> str:
    """Return a matrix with a row before the one that begins at a line."""
    lines = matrix.splitlines()
    return "\n".join([*lines[: line - 1], *row.splitlines(), "", *lines[line - 1 :], ""])


def blocks(matrix: str, line: int, keys: tuple[str, ...]) -> str:
    """Return the lines of some keys of the row that begins at a line, comments included."""
    lines = matrix.splitlines()[line - 1 :]
    key = re.compile(rf" {{4}}(?:{'|'.join(keys)}):(?: |$)")
    kept, inside = [], False
    for text in lines[: row_end(lines, 1)]:
        if text.startswith("    ") and text[4:5] not in (" ", ""):
            inside = key.match(text) is not None
        if inside:
            kept.append(f"{text}\n")
    return "".join(kept)


def row_end(lines: list[str], line: int) -> int:
    """Return the number of the last line of the row that begins at a line.

    Raises:
        MatrixError: the file does not have the layout of the project's matrix.
    """
    if not lines[line - 1].startswith("  - "):
        raise MatrixError(
            f"line {line}: rows are not indented by two spaces, one below the other",
            remedy="give the rows the layout of the project's matrix.yaml, or write the new one by "
            "hand",
        )
    end = line
    for number, text in enumerate(lines[line:], line + 1):
        if text.strip() and not text.startswith("    "):
            break
        end = number if text.strip() else end
    return end


def _inserted(text: str, pattern: re.Pattern[str], version: str, new: str) -> str:
    lines = text.splitlines()
    rows = [(n, found["version"]) for n, line in enumerate(lines) if (found := pattern.match(line))]
    if any(known == version for _, known in rows):
        return text
    older = [number for number, known in rows if Version(known) < Version(version)]
    place = older[-1] + 1 if older else rows[0][0]
    return "\n".join([*lines[:place], new, *lines[place:], ""])
