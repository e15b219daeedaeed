"""Ctrl-C at any moment, and more than once: a clean end, a whole store, and the build resumes."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from tests.chance import times
from tests.faults.tiny import ROOT, Tiny

AT_ONCE = "interrupted again: ended at once\n"
IN_ORDER = "interrupted: finished work is kept; run the same command again to resume\n"


def interrupt(tiny: Tiny, moments: list[float]) -> tuple[int, str]:
    """Run a build that gets Ctrl-C after some seconds each; return its exit code and output."""
    with tiny.start("build") as build:
        for pause in moments:
            time.sleep(pause)
            with suppress(ProcessLookupError):
                os.killpg(build.pid, signal.SIGINT)
        _, said = build.communicate()
    return build.returncode, said


@pytest.mark.parametrize("count", [1, 3])
def test_interrupts_end_a_build_cleanly(
    warm: Tiny, digest: str, count: int, chance: random.Random
) -> None:
    for _ in range(times(2, 30)):
        moments = [chance.uniform(0.1, 1.0), *(chance.uniform(0, 0.05) for _ in range(count - 1))]
        print(moments)
        code, said = interrupt(warm, moments)
        # While Python itself starts, it reports the interruption by a traceback of its own.
        assert "Traceback" not in said or f"{ROOT}/images/" not in said, said
        assert "Exception" not in said, said
        assert code in (0, 130, -signal.SIGINT), said
        if code == 130:
            assert said.endswith((IN_ORDER, AT_ONCE)), said
        assert warm.verified()
    assert warm.build() == digest
