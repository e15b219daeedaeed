"""Text that somebody else may have written, as a terminal may show it.

Escape sequences of a registry's answer, a wheel's file name or an image's label could clear the
screen, change the window's title, or make a failure look like success. This module travels in every
bundle (see `images.unbundle`).
"""

from __future__ import annotations

import re

_LINE = (
    "\x00-\x1f\x7f-\x9f"  # controls of ASCII and of ISO 8859 (ECMA-48), line ends among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of text (UAX #9)
    "\u2028\u2029"  # ends of lines and paragraphs
    "\ud800-\udfff"  # halves of surrogate pairs: cannot be written at all
)
_NOT_IN_LINE = re.compile(f"[{_LINE}]")
_NOT_IN_TEXT = re.compile(f"(?![\n\t])[{_LINE}]")


def line(text: str) -> str:
    """The text without line ends and other controls: each is replaced by its escape."""
    return _NOT_IN_LINE.sub(_escaped, text)


def lines(text: str) -> str:
    """The same for text of several lines: line ends and tabs stay."""
    return _NOT_IN_TEXT.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
