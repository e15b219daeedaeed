"""The GPUs that an image serves, as far as they decide which GPU code stays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Served(NamedTuple):
    """The GPUs that an image serves, as far as they decide what stays.

    Attributes:
        majors: major versions of their compute capabilities, sorted, e.g. 8 and 9.
        newest: the highest compute capability, e.g. 90 for 9.0.
    """

    majors: tuple[int, ...]
    newest: int


def served_by(gpus: Iterable[str]) -> Served:
    """Return what compute capabilities such as `9.0` decide.

    Raises:
        ValueError: there is none, or one is not a compute capability.
    """
    numbers = []
    for text in gpus:
        major, _, minor = text.partition(".")
        if not (major.isdecimal() and minor.isdecimal() and len(minor) == 1):
            raise ValueError(f"{text!r} is not a compute capability")
        numbers.append(int(major) * 10 + int(minor))
    return Served(tuple(sorted({number // 10 for number in numbers})), max(numbers))
