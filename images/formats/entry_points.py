"""The scripts that a wheel's entry_points.txt declares.

Specification: PyPA, "Entry points", https://packaging.python.org/specifications/entry-points/.
"""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING

from installer.scripts import Script
from installer.utils import parse_entrypoints

from images.errors import IntegrityError

if TYPE_CHECKING:
    from installer.scripts import ScriptSection

_FORM = "NAME = MODULE:FUNCTION"


def scripts(wheel: str, text: str) -> list[Script]:
    """Return the scripts, sorted by name, each name once.

    Args:
        wheel: the wheel's file name, for messages.
        text: of its entry_points.txt.

    Raises:
        IntegrityError: the file is malformed, a name is not valid for a program, or two scripts of
            one name call different functions.
    """
    found: dict[str, Script] = {}
    for name, module, attribute, section in _parsed(wheel, text):
        if "/" in name or name in ("", ".", "..") or not name.isprintable():
            raise _malformed(wheel, f"{name!r} cannot be the name of a program")
        first = found.setdefault(name, Script(name, module, attribute, section))
        if (first.module, first.attr) != (module, attribute):
            raise _malformed(
                wheel, f"{name!r} is {first.module}:{first.attr} and {module}:{attribute}"
            )
    return list(found.values())


def _parsed(wheel: str, text: str) -> list[tuple[str, str, str, ScriptSection]]:
    try:
        return sorted(parse_entrypoints(text))
    except configparser.Error as error:
        raise _malformed(wheel, " ".join(str(error).split())) from error
    except AssertionError as error:  # `installer` raises it without a message
        raise _malformed(wheel, f"a line is not {_FORM}: {_odd_line(text)!r}") from error


def _odd_line(text: str) -> str:
    """Return the first line that is malformed by itself; "" if there is none."""
    section = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        section = line if line.startswith("[") else section
        try:
            list(parse_entrypoints(f"{section}\n{line}\n" if line != section else line))
        except (AssertionError, configparser.Error):
            return line
    return ""


def _malformed(wheel: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{wheel}: its entry_points.txt is malformed: {why}",
        remedy="lock another version of the distribution: no installer can make its scripts",
    )
