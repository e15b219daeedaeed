"""Who wins where two distributions bring one file: the entries of `conflicts:` in the matrix."""

from __future__ import annotations

from typing import NamedTuple

THE_IMAGE = "the image"
"""Who brings the files that are the image's own; no distribution can have that name."""


class Rule(NamedTuple):
    """An entry of `conflicts:` in the matrix.

    Attributes:
        path: of the file that does not count, absolute in the image; `*` stands for any
            characters, `/` among them.
        winner: the distribution whose file counts, or `THE_IMAGE`.
        over: the distribution whose file does not.
        why: the reason.
        place: where the matrix has it, e.g. `matrix.yaml:70`.
    """

    path: str
    winner: str
    over: str
    why: str
    place: str
