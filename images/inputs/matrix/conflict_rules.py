"""The entries of `conflicts:` in the matrix: which of two files at the same path is used."""

from __future__ import annotations

from typing import NamedTuple

THE_IMAGE = "the image"
"""The owner of the image's own files; no distribution can have that name."""


class Rule(NamedTuple):
    """An entry of `conflicts:` in the matrix.

    Attributes:
        path: of the file, absolute in the image; `*` stands for any characters, including `/`.
        winner: the distribution whose file is used, or `THE_IMAGE`.
        over: the distribution whose file is left out.
        why: the reason.
        location: its line in the matrix, e.g. `matrix.yaml:70`.
    """

    path: str
    winner: str
    over: str
    why: str
    location: str
