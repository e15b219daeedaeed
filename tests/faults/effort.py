"""How often tests of faults try something: a few times, or many in a long run."""

from __future__ import annotations

import os

LONG = "ROLL_IMAGES_FAULTS"


def times(few: int, many: int) -> int:
    """Return `few`, or `many` if ROLL_IMAGES_FAULTS is `long`."""
    return many if os.environ.get(LONG) == "long" else few
