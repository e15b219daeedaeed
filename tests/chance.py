"""Random choices of tests: the same ones in each run, new ones in the long search for faults.

A run of the tests judges a change, so what it tries may not depend on the run. The search
(`ROLL_IMAGES_FAULTS=long`, weekly in CI) draws new examples, and prints how to repeat one.
"""

from __future__ import annotations

import os
import random

from hypothesis import settings

LONG = "ROLL_IMAGES_FAULTS"
SEED = "ROLL_IMAGES_SEED"

settings.register_profile("repeatable", derandomize=True, database=None)


def searching() -> bool:
    """Return whether this run is the long search for faults."""
    return os.environ.get(LONG) == "long"


def times(few: int, many: int) -> int:
    """Return how often something is tried: `few`, or `many` in the long search for faults."""
    return many if searching() else few


def load_profile() -> None:
    """Let hypothesis draw the same examples in each run, unless this one is the long search."""
    if not searching():
        settings.load_profile("repeatable")


def generator() -> random.Random:
    """Return the random choices of one test; `ROLL_IMAGES_SEED` repeats those of another run."""
    new = random.SystemRandom().randrange(1 << 32) if searching() else 0
    seed = int(os.environ.get(SEED) or new)
    print(f"{SEED}={seed}")
    return random.Random(seed)
