"""Verdicts: which evidence proves an image, and the text for users."""

from __future__ import annotations

from dataclasses import replace

import pytest

from images.attest import evidence
from images.attest.evidence import Evidence, Outcome
from images.attest.verdict import judge_results, needs_roll
from tests.unit.proofs import (
    DIGEST,
    ELSEWHERE,
    FAILED,
    H100,
    IMAGE,
    MACHINE,
    OTHER,
    PASSED,
    PROOF,
    ROLL,
    SKIPPED,
    TARGET,
    WHOLE,
    outcomes,
    with_roll,
    with_tests,
)


def verdict(found: Evidence | None, built: str | None = DIGEST) -> tuple[bool, str]:
    judged = judge_results(found, TARGET, built)
    return judged.proven, judged.text


def test_same_digest_and_nothing_against_it_is_proven() -> None:
    assert verdict(WHOLE) == (True, "H100 80GB HBM3, 2026-11-24")


def test_several_gpus_are_counted() -> None:
    two = replace(PROOF, machine=replace(MACHINE, gpus=(H100, H100)))
    assert verdict(Evidence(IMAGE, (two,)))[1] == "2 x H100 80GB HBM3, 2026-11-24"


def test_all_kinds_of_gpus_are_named() -> None:
    assert verdict(Evidence(IMAGE, (PROOF, ELSEWHERE)))[1] == "H100 80GB HBM3, H200, 2026-11-26"


def test_a_failure_on_one_kind_of_gpu_counts_for_all() -> None:
    bad = replace(ELSEWHERE, tests=outcomes(one=FAILED))
    assert verdict(Evidence(IMAGE, (PROOF, bad))) == (False, "no (1 failed on H200)")


def test_an_unfinished_run_elsewhere_takes_nothing_away() -> None:
    begun = replace(ELSEWHERE, tests=outcomes(one=PASSED, two=Outcome("not run")))
    assert verdict(Evidence(IMAGE, (PROOF, begun))) == (True, "H100 80GB HBM3, 2026-11-24")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "no"),
        (Evidence(IMAGE, ()), "no (nothing passed)"),
        (with_tests(one=PASSED, two=FAILED, three=FAILED), "no (2 failed on H100 80GB HBM3)"),
        (with_tests(one=PASSED, two=Outcome("not run")), "no (1 not run)"),
        (with_tests(one=SKIPPED), "no (nothing passed)"),
        (with_tests(), "no (nothing passed)"),
        (replace(WHOLE, image=replace(IMAGE, target="x")), "no (of another target)"),
    ],
)
@pytest.mark.parametrize("built", [DIGEST, None])
def test_what_is_not_proven(found: Evidence | None, text: str, built: str | None) -> None:
    assert verdict(found, built) == (False, text)


def test_another_digest_is_never_proven() -> None:
    assert verdict(WHOLE, OTHER) == (False, "no (another digest)")


def test_image_that_is_not_built_is_not_proven_but_the_evidence_is_named() -> None:
    proven, text = verdict(WHOLE, None)
    assert not proven
    assert text == f"{DIGEST[:19]}: H100 80GB HBM3, 2026-11-24"


# -- ROLL's own code -------------------------------------------------------------------------------


def test_rolls_commit_is_in_the_verdict() -> None:
    assert verdict(with_roll(ROLL)) == (True, "H100 80GB HBM3, 2026-11-24 with ROLL 8eb27cc2")
    assert judge_results(with_roll(ROLL), TARGET, DIGEST).roll == ROLL
    assert verdict(with_roll(replace(ROLL, dirty=True)))[1].endswith(" with ROLL 8eb27cc2, changed")


@pytest.mark.parametrize(
    ("target", "needed"), [("a-roll", True), ("a-roll-sm80-sm90", True), ("a-sm90", False)]
)
def test_an_image_for_some_gpus_needs_what_its_target_needs(target: str, needed: bool) -> None:
    assert needs_roll(target) == needed


def test_a_failure_of_rolls_code_unproves_the_image() -> None:
    bad = replace(ROLL, tests=outcomes(one=PASSED, two=FAILED))
    text = "no (ROLL 8eb27cc2: 1 failed on H100 80GB HBM3)"
    assert verdict(with_roll(bad)) == (False, text)


def test_a_part_of_rolls_tests_is_named_as_such() -> None:
    part = replace(ROLL, tests=outcomes(one=PASSED, two=Outcome("not run")))
    assert verdict(with_roll(part))[1].endswith(" with ROLL 8eb27cc2 (1 not run)")


def test_roll_alone_proves_nothing() -> None:
    suite = set(outcomes(one=PASSED, two=PASSED))
    alone = replace(PROOF, tests={}, runs={}, roll=ROLL)
    found = evidence.add(None, IMAGE, alone, suite, set(ROLL.tests))
    assert verdict(found) == (False, "no (2 not run)")
