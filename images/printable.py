"""Untrusted text, escaped for a terminal.

Escape sequences in a registry's response, a wheel's file name or an image's label could clear the
screen, change the window's title, or make a failure look like success. This module is in every
bundle (see `images.unbundle`).
"""

from __future__ import annotations

_LINE_ENDS = "\n\t"


def line(text: str) -> str:
    """Return the text with an escape for each character that is not printable.

    By Unicode (`str.isprintable`) these are controls including line ends, marks that change the
    direction of text, halves of surrogate pairs, and spaces other than U+0020.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def lines(text: str) -> str:
    """Return the same for text of several lines: line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(one if one in _LINE_ENDS else _shown(one) for one in text)


def _shown(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
