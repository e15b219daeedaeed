"""The phases of `cycle.py`: how they are run, which a release cannot, and what they must give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.image import cycle
from tests.image.box import Box

Seen = dict[str, Any]
"""What each phase saw, and under `skipped` why others were not run."""

TOKENS = [595, 595, 936, 936, 936, 685, 685, 685]
"""The answer with the weights of the checkpoint (`roll_runtime.smoke_model`)."""

UPDATED = {
    "first step": "colocated",
    "second step": "colocated",
    "released twice": "stopped_between",
    "never released": "never_released",
    "broadcast": "broadcast",
}
"""What is generated once weights have arrived, each with its phase: TOKENS."""

FLUSHED = [True] * cycle.FLUSHES
TWO_ANSWERS = [[8, 8]] * cycle.PROMPTS

UNFIXED: dict[str, dict[str, str]] = {
    "0.5.10.post1": {
        "several_answers": "it plans no batch any more when as many prompts of several answers run "
        "as may (docs/roll-runtime.md)"
    }
}
"""By release, the phases that it does not get through on any device, and why."""


def run(
    box: Box,
    device: str,
    names: Iterable[str],
    skipped: Mapping[str, str],
    env: Mapping[str, str],
) -> Seen:
    """Run phases in a box, but for those that are skipped.

    Args:
        box: the started image.
        device: `cpu` or `cuda`.
        names: the phases, in their order.
        skipped: why a phase is not run, by its name.
        env: variables of the script.
    """
    left = [name for name in names if name not in skipped]
    found = box.ask(Path(cycle.__file__).read_text(), device, *left, env=env)
    return {**found, "skipped": skipped}


def need(seen: Seen, name: str) -> None:
    """Skip, aloud, where a phase was not run."""
    if name in seen["skipped"]:
        pytest.skip(seen["skipped"][name])
