"""Text that somebody else may have written, as a terminal may show it.

Escape sequences of a registry's answer, a wheel's file name or an image's label could clear the
screen, change the window's title, or make a failure look like success. This module travels in every
bundle (see `images.unbundle`).
"""

from __future__ import annotations

_LINE_ENDS = "\n\t"


def line(text: str) -> str:
    """The text with an escape in the place of each character that is not for printing.

    That is as Unicode has it (`str.isprintable`): controls, line ends among them, what turns the
    direction of text, halves of surrogate pairs, spaces that look like others.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def lines(text: str) -> str:
    """The same for text of several lines: line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(one if one in _LINE_ENDS else _shown(one) for one in text)


def _shown(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
