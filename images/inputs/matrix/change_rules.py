"""The entries of `gpu_code:`, `debug_sections:` and `left_out:`: what leaves distributions."""

from __future__ import annotations

from typing import NamedTuple


class Licensed(NamedTuple):
    """A distribution whose libraries are changed: by `gpu_code:` or by `debug_sections:`.

    Attributes:
        name: of the distribution.
        licence: the licence that permits this; the wheel must be under it.
        why: the reason.
        location: its line in the matrix, e.g. `matrix.yaml:70`.
    """

    name: str
    licence: str
    why: str
    location: str


class LeftOut(NamedTuple):
    """Files of a distribution that are not installed, since nothing in the image uses them.

    Attributes:
        path: of the files, absolute in the image; `*` stands for any characters, including `/`.
        distribution: that has them.
        why: the reason.
        location: its line in the matrix, e.g. `matrix.yaml:70`.
    """

    path: str
    distribution: str
    why: str
    location: str
