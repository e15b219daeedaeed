"""Evidence that is not to be believed: another suite, another day, another image, no ROLL."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from images.attest import evidence, evidence_check
from images.attest.evidence import Evidence, Gpu, ImageId, Machine, Outcome, Proof, RollRun
from images.attest.verdict import Verdict
from images.inputs.matrix.load import load
from images.repository import ROOT

ROLL_TARGET = "torch280-sglang052-roll"
DIGEST = f"sha256:{'a' * 64}"
SINCE = "2026-08-20T00:00:00Z"
NOW = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)
GPU, ROLL = (
    evidence_check.suite(evidence_check.GPU_SUITE),
    evidence_check.suite(evidence_check.ROLL_SUITE),
)
PASSED = Outcome("passed")
RUN = RollRun("8eb27cc2dc34c4d1310b169d9b86d339004d811a", False, "2026-11-25T00:00:00Z", {})
RUN = replace(RUN, tests=dict.fromkeys(ROLL, PASSED))
PROOF = Proof(
    Machine((Gpu("NVIDIA H200", 139.8, "9.0"),), "580", "13.0", "6"),
    "docker",
    "2026-11-25T00:00:00Z",
    dict.fromkeys(GPU, PASSED),
    {},
)


def judged(proof: Proof, target: str = "torch280-sglang052") -> Verdict:
    found = Evidence(ImageId(target, DIGEST, DIGEST, DIGEST, "0.1.0"), (proof,))
    return evidence_check.judge(found, target, DIGEST, SINCE, NOW)


def with_tests(**tests: Outcome | None) -> Proof:
    changed = {f"{name.replace('__', '.py::')}": test for name, test in tests.items()}
    kept = {**PROOF.tests, **changed}
    return replace(PROOF, tests={name: test for name, test in kept.items() if test is not None})


def test_whole_suite_of_our_days_is_believed() -> None:
    assert judged(PROOF) == Verdict(True, "H200, 2026-11-25")


def test_a_test_with_parameters_is_of_the_suite() -> None:
    name = min(GPU)
    tests = {key: test for key, test in PROOF.tests.items() if key != name}
    assert judged(replace(PROOF, tests={**tests, f"{name}[one]": PASSED})).proven


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        (replace(PROOF, tests={"invented::test_nothing": PASSED}), f"{len(GPU)} of {len(GPU)}"),
        (with_tests(test_torch__test_nothing=PASSED), "test_torch.py::test_nothing is no test"),
        (with_tests(test_fp8__test_generates=None), f"1 of {len(GPU)} tests have no result"),
        (with_tests(test_fp8__test_generates=Outcome("skipped")), "skipped without a reason"),
        (replace(PROOF, date="2099-01-01T00:00:00Z"), "in the future"),
        (replace(PROOF, date="2026-11-28T13:30:00Z"), "in the future"),
        (replace(PROOF, date="2026-08-19T23:59:59Z"), "before that of the image's packages"),
        (replace(PROOF, date="yesterday"), "'yesterday' is no date"),
        (replace(PROOF, date="0001-01-01T00:00:00+14:00"), "before that of the image's packages"),
        (replace(PROOF, machine=replace(PROOF.machine, gpus=())), "names no GPU"),
        (replace(PROOF, roll=replace(RUN, date="2099-01-01T00:00:00Z")), "in the future"),
        (replace(PROOF, roll=replace(RUN, commit="main")), "'main' is no commit"),
    ],
)
def test_what_is_not_believed(proof: Proof, why: str) -> None:
    verdict = judged(proof)
    assert not verdict.proven
    assert verdict.fault is not None
    assert why in verdict.fault


def test_engines_must_have_started() -> None:
    name = min(test for test in GPU if test.startswith("test_engine.py"))
    skipped = {**PROOF.tests, name: Outcome("skipped", reason="no time")}
    assert judged(replace(PROOF, tests=skipped)).fault == f"{name} skipped"


def test_clocks_of_two_machines_may_differ_a_little() -> None:
    assert judged(replace(PROOF, date="2026-11-28T12:30:00Z")).proven


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (None, "ROLL was not run in it"),
        (replace(RUN, dirty=True), "ROLL 8eb27cc2, changed is no whole run"),
        (replace(RUN, tests={**RUN.tests, min(ROLL): Outcome("not run")}), "(1 not run)"),
        (replace(RUN, tests=dict(list(RUN.tests.items())[:5])), "have no result"),
    ],
)
def test_image_for_roll_needs_rolls_own_run(run: RollRun | None, why: str) -> None:
    verdict = judged(replace(PROOF, roll=run), ROLL_TARGET)
    assert not verdict.proven
    assert verdict.fault is not None
    assert why in verdict.fault


def test_image_for_roll_with_rolls_run_is_proven() -> None:
    assert judged(replace(PROOF, roll=RUN), ROLL_TARGET).proven


def test_committed_evidence_is_believed() -> None:
    rows = load(ROOT / "matrix.yaml").targets
    for row in rows:
        found = evidence.read(evidence.path_of(ROOT / "matrix.yaml", row.id))
        if found is not None:
            digest = found.image.manifest_digest
            verdict = evidence_check.judge(found, row.id, digest, row.exclude_newer)
            # Tests that came after a run have no result in it until the image is proven again.
            fault = verdict.fault or ""
            waits = "have no result" in fault or "not run" in fault
            assert verdict.proven or waits, (row.id, fault)
