"""How long the tests of faults go on."""

from __future__ import annotations

from tests import chance


def times(few: int, many: int) -> int:
    """Return how often something is tried: `few`, or `many` in the long search for faults."""
    return many if chance.searching() else few
