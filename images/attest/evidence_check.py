"""Whether evidence may be believed: held against the tests, the calendar and the image.

Evidence is a file that whoever may change the repository can write. What is found here is the
leftover of another suite, of another image or of another day, and what somebody typed who did not
run the tests; a forger who copies all of them is stopped by review alone (docs/security.md).
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
# A machine with one GPU leaves out some tests, and an older SGLang others; never these.
_ENGINE, _JOB = "test_engine.py::", "test_job.py::"
_CLOCKS = timedelta(hours=1)
"""By how much the clocks of two machines may differ."""


@cache
def suite(directory: Path) -> frozenset[str]:
    """The ids of all tests in a directory, without parameters, collected or not."""
    return frozenset(
        f"{path.name}::{name}"
        for path in directory.glob("test_*.py")
        for name in _TEST.findall(path.read_text(encoding="utf-8"))
    )


def judge(
    found: Evidence | None, target: str, built: str | None, since: str, now: datetime | None = None
) -> Verdict:
    """As `verdict.judge`, and none is proven by evidence that is not to be believed.

    Args:
        found: what there is, if anything.
        target: the target.
        built: the digest of the image's manifest; None where it is not built.
        since: when the image's inputs ended, RFC 3339: nothing can have been proven before.
        now: the time, by default the machine's.
    """
    said = verdict.judge(found, target, built)
    if found is None or not said.proven:
        return said
    at = now or datetime.now(timezone.utc)
    faults = list(_faults(found, since, at))
    return Verdict(False, fault=faults[0], roll=said.roll) if faults else said


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
    """A time of RFC 3339; the whole date alone stands for its beginning."""
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _of_suite(tests: Mapping[str, Outcome], wanted: frozenset[str], core: str) -> Iterator[str]:
    had = {name.partition("[")[0] for name, test in tests.items() if test.outcome != NOT_RUN}
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
    """Where evidence, an image's manifest and a row of the matrix do not speak of one image.

    Args:
        found: the evidence.
        manifest: the manifest, its bytes checked against the digest.
        versions: labels that the row of the matrix gives its image.
    """
    labels, config = manifest.get("annotations"), manifest.get("config")
    told = labels if isinstance(labels, dict) else {}
    digest = config.get("digest") if isinstance(config, dict) else None
    image = found.image
    wanted = {
        **versions,
        "roll.lock.sha256": image.lock_digest.removeprefix("sha256:"),
        "roll.runtime.version": image.roll_runtime,
    }
    faults = [
        f"{name} is {told.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if told.get(name) != value
    ]
    if digest != image.config_digest:
        faults.append(f"its config is {digest}, and the tested one's was {image.config_digest}")
    return faults
