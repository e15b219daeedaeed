"""Checks of evidence against the tests, the calendar and the image.

Evidence is a file that anyone who may change the repository can write. These checks find the
evidence of another suite, another image or another day, and text that was typed without running the
tests; review alone stops a forger who copies everything (docs/security.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any

from images.attest import evidence, verdict
from images.attest.evidence import NOT_RUN, PASSED, Evidence, Outcome
from images.attest.verdict import Verdict
from images.repository import ROOT

GPU_SUITE = ROOT / "tests" / "gpu"
ROLL_SUITE = ROOT / "tests" / "roll"

_TEST = re.compile(r"^def (test_\w+)", re.MULTILINE)
# Some tests are skipped on a machine with one GPU, others with an older SGLang; these never are.
_ENGINE, _JOB = "test_engine.py::", "test_job.py::"
_CLOCKS = timedelta(hours=1)
"""The allowed difference between the clocks of two machines."""


@cache
def suite(directory: Path) -> frozenset[str]:
    """Return the ids of all tests in a directory, without parameters, collected or not."""
    return frozenset(
        f"{path.name}::{name}"
        for path in directory.glob("test_*.py")
        for name in _TEST.findall(path.read_text(encoding="utf-8"))
    )


def judge(
    found: Evidence | None, target: str, built: str | None, since: str, now: datetime | None = None
) -> Verdict:
    """Return whether evidence proves an image: by its digest, its results and these checks.

    Args:
        found: the evidence of the target, if there is any.
        target: the target.
        built: the digest of the image's manifest; None where it is not built.
        since: the end of the image's inputs, RFC 3339: no test can have run before.
        now: the time, by default the machine's.
    """
    judged = verdict.judge_results(found, target, built)
    if found is None or not judged.proven:
        return judged
    at = now or datetime.now(timezone.utc)
    faults = list(_faults(found, since, at))
    return Verdict(False, fault=faults[0], roll=judged.roll) if faults else judged


def _faults(found: Evidence, since: str, now: datetime) -> Iterator[str]:
    for proof in found.proofs:
        if not proof.gpus:
            yield "it names no GPU"
        for date in (proof.date, *([proof.roll.date] if proof.roll else [])):
            yield from _of_calendar(date, since, now)
    yield from _of_suite(found.tests, suite(GPU_SUITE), _ENGINE)
    if roll := found.roll:
        yield from _of_suite(roll.tests, suite(ROLL_SUITE), _JOB)
        if not re.fullmatch(r"[0-9a-f]{40}", roll.commit):
            yield f"{roll.commit!r} is no commit of ROLL"


def _of_calendar(date: str, since: str, now: datetime) -> Iterator[str]:
    try:
        tested, earliest = _time(date), _time(since)
    except (ValueError, OverflowError):
        yield f"{date!r} is no date"
        return
    if tested > now + _CLOCKS:
        yield f"its date is in the future: {date}"
    if tested < earliest:
        yield f"its date is before that of the image's packages: {date}, {since}"


def _time(text: str) -> datetime:
    """Return a time of RFC 3339; a date alone is the beginning of that day."""
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _of_suite(tests: Mapping[str, Outcome], wanted: frozenset[str], core: str) -> Iterator[str]:
    had = {evidence.base(name) for name, test in tests.items() if test.outcome != NOT_RUN}
    if missing := sorted(wanted - had):
        yield f"{len(missing)} of {len(wanted)} tests have no result, {missing[0]} is one"
    if unknown := sorted(had - wanted):
        yield f"{unknown[0]} is no test"
    for name, test in tests.items():
        if name.startswith(core) and test.outcome != PASSED:
            yield f"{name} {test.outcome}"
        elif test.outcome == evidence.SKIPPED and not test.reason:
            yield f"{name} was skipped without a reason"


def image_faults(
    found: Evidence, manifest: Mapping[str, Any], versions: Mapping[str, str]
) -> Sequence[str]:
    """Return the contradictions between evidence, an image's manifest and a row of the matrix.

    Args:
        found: the evidence.
        manifest: the manifest, its bytes checked against the digest.
        versions: labels that follow from the row of the matrix.
    """
    labels, config = manifest.get("annotations"), manifest.get("config")
    actual = labels if isinstance(labels, dict) else {}
    digest = config.get("digest") if isinstance(config, dict) else None
    image = found.image
    wanted = {
        **versions,
        "roll.lock.sha256": image.lock_digest.removeprefix("sha256:"),
        "roll.runtime.version": image.roll_runtime,
    }
    faults = [
        f"{name} is {actual.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if actual.get(name) != value
    ]
    if digest != image.config_digest:
        faults.append(f"its config is {digest}, and the tested one's was {image.config_digest}")
    return faults
