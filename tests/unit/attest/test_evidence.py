"""Evidence of GPU runs: its files, and how results of several runs and machines are merged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from images.attest import evidence
from images.attest.evidence import Evidence, Outcome, Proof, RollRun, Run
from images.errors import EvidenceError
from tests.unit.proofs import (
    COMMIT,
    DIGEST,
    ELSEWHERE,
    FAILED,
    H100,
    IMAGE,
    MACHINE,
    NOT_RUN,
    OTHER,
    PASSED,
    PROOF,
    ROLL,
    SKIPPED,
    WHOLE,
    outcomes,
    with_roll,
)

# -- files -----------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    both = Evidence(IMAGE, (PROOF, ELSEWHERE))
    evidence.write(path, both)
    assert evidence.read(path) == both


def test_same_evidence_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    turned = replace(PROOF, tests=dict(sorted(PROOF.tests.items(), reverse=True)))
    for name, proofs in (("a", (PROOF, ELSEWHERE)), ("b", (ELSEWHERE, turned))):
        evidence.write(tmp_path / name, Evidence(IMAGE, proofs))
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    assert content.endswith(b"}\n")
    document = json.loads(content)
    assert list(document) == ["image", "proofs"]
    assert list(document["proofs"][0]) == ["machine", "how", "date", "tests", "runs"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_no_file_is_no_evidence(tmp_path: Path) -> None:
    assert evidence.read(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-20],
        lambda text: "[]",
        lambda text: "null",
        lambda text: "{}",
        lambda text: text.replace('"passed"', '"fine"'),
        lambda text: text.replace('"driver"', '"hostname"'),
        lambda text: text.replace('"manifest_digest"', '"digest"'),
        lambda text: text.replace(f'"{DIGEST}"', "null"),
        lambda text: text.replace(f'"{H100.name}"', "null"),
    ],
)
def test_anything_else_is_reported_with_the_fix(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "x.json"
    evidence.write(path, WHOLE)
    assert callable(spoil)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(EvidenceError) as raised:
        evidence.read(path)
    assert str(path) in raised.value.message
    assert "--gpu" in (raised.value.remedy or "")


def test_path_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EvidenceError, match="cannot be written"):
        evidence.write(tmp_path / "file" / "x.json", WHOLE)


# -- calls add up ----------------------------------------------------------------------------------


def added(old: Evidence | None, proof: Proof, *suite: str) -> tuple[Proof, ...]:
    named = {name.partition("[")[0] for name in (*proof.tests, *suite)}
    return evidence.add(old, IMAGE, proof, named).proofs


def test_newest_wins_test_by_test_and_run_by_run() -> None:
    old = replace(
        PROOF,
        tests=outcomes(one=FAILED, three=PASSED),
        runs={"off the main thread": Run({"start": 99.0}), "two GPUs": Run({"start": 30.0})},
        date="2026-11-23T00:00:00Z",
    )
    (found,) = added(Evidence(IMAGE, (old,)), PROOF, "test_a.py::test_three")
    assert found.tests == outcomes(one=PASSED, two=SKIPPED, three=PASSED)
    assert found.runs["off the main thread"] == PROOF.runs["off the main thread"]
    assert found.runs["two GPUs"].seconds == {"start": 30.0}
    assert found.date == PROOF.date


def test_proofs_on_other_gpus_stay_as_they_are() -> None:
    for first, second in ((PROOF, ELSEWHERE), (ELSEWHERE, PROOF)):
        found = added(Evidence(IMAGE, (first,)), second, "test_a.py::test_new")
        assert [proof.gpus for proof in found] == [PROOF.gpus, ELSEWHERE.gpus]
        assert first in found, "a test that was written later says nothing about an older run"
        assert sum(proof.count("not run") for proof in found) == 1


def test_one_gpu_and_two_of_them_are_two_proofs() -> None:
    two = replace(PROOF, machine=replace(MACHINE, gpus=(H100, H100)))
    assert len(added(WHOLE, two)) == 2


@pytest.mark.parametrize(
    "old",
    [
        None,
        replace(WHOLE, image=replace(IMAGE, manifest_digest=OTHER)),
        Evidence(IMAGE, (replace(PROOF, machine=replace(MACHINE, driver="570.1")),)),
        Evidence(IMAGE, (replace(PROOF, how="docker"),)),
    ],
)
def test_another_image_driver_or_way_starts_afresh(old: Evidence | None) -> None:
    new = replace(PROOF, tests=outcomes(three=PASSED))
    assert added(old, new) == (new,)


def test_what_was_not_run_is_counted_and_what_is_gone_is_dropped() -> None:
    suite = {"test_a.py::test_one", "test_a.py::test_more", "test_b.py::test_never"}
    ran = replace(
        PROOF,
        tests={
            "test_a.py::test_one": PASSED,
            "test_a.py::test_more[sm_90]": PASSED,
            "test_a.py::test_removed": FAILED,
        },
    )
    assert ran.within(suite).tests == {
        "test_a.py::test_one": PASSED,
        "test_a.py::test_more[sm_90]": PASSED,
        "test_b.py::test_never": Outcome("not run"),
    }


def test_test_with_parameters_is_not_missing_once_it_has_run() -> None:
    """Evidence is written after each test: one that waits has no parameters yet."""
    suite = {"test_a.py::test_one", "test_a.py::test_more"}
    begun = replace(PROOF, tests={"test_a.py::test_one": PASSED}).within(suite)
    assert begun.tests["test_a.py::test_more"] == Outcome("not run")
    more = replace(PROOF, tests={"test_a.py::test_more[sm_90]": PASSED})
    names = ["test_a.py::test_more[sm_90]", "test_a.py::test_one"]
    assert sorted(more.after(begun).within(suite).tests) == names
    part = replace(more, tests={**more.tests, "test_a.py::test_more[sm_80]": Outcome("not run")})
    assert part.within(suite).count("not run") == 2


# -- ROLL's own code -------------------------------------------------------------------------------


def test_rolls_commit_is_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    evidence.write(path, with_roll(replace(ROLL, dirty=True)))
    assert evidence.read(path) == with_roll(replace(ROLL, dirty=True))
    document = json.loads(path.read_text())["proofs"][0]["roll"]
    assert document["commit"] == COMMIT
    assert document["dirty"] is True


def test_a_run_of_roll_leaves_the_other_tests_and_their_date() -> None:
    alone = replace(PROOF, date="2026-11-28T10:00:00Z", tests={}, runs={}, roll=ROLL)
    found = evidence.add(WHOLE, IMAGE, alone, set(PROOF.tests), set(ROLL.tests))
    assert found == with_roll(ROLL)


def test_a_run_of_the_other_tests_leaves_rolls() -> None:
    (found,) = added(with_roll(ROLL), PROOF)
    assert found.roll == ROLL


def test_runs_of_the_same_commit_add_up_and_of_another_start_afresh() -> None:
    new = replace(ROLL, tests=outcomes(two=PASSED))
    assert new.after(ROLL).tests == outcomes(one=PASSED, two=PASSED)
    for other in (replace(new, commit="1" * 40), replace(new, dirty=True)):
        assert other.after(ROLL) == other


def test_what_of_rolls_suite_was_not_run_is_counted() -> None:
    now = replace(PROOF, roll=replace(ROLL, tests=outcomes(one=PASSED)))
    found = evidence.add(
        None, IMAGE, now, set(PROOF.tests), {"test_a.py::test_one", "b.py::test_x"}
    )
    assert found.proofs[0].roll is not None
    assert found.proofs[0].roll.tests["b.py::test_x"] == Outcome("not run")


# -- several machines ------------------------------------------------------------------------------


def test_what_one_machine_left_out_another_may_have_run() -> None:
    """Some tests need two GPUs; those for one need not run on two again."""
    run = RollRun("8" * 40, False, "2026-11-26T03:00:00Z", outcomes(one=PASSED, two=SKIPPED))
    two = replace(run, date="2026-11-27T03:00:00Z", tests=outcomes(one=NOT_RUN, two=PASSED))
    both = Evidence(IMAGE, (replace(PROOF, roll=run), replace(ELSEWHERE, roll=two)))
    assert both.roll == replace(two, tests=outcomes(one=PASSED, two=PASSED))
    assert both.roll.whole
    assert both.tests == {**PROOF.tests, **ELSEWHERE.tests}
    other = replace(two, commit="9" * 40)
    assert Evidence(IMAGE, (replace(PROOF, roll=run), replace(ELSEWHERE, roll=other))).roll == other


def test_failure_on_one_machine_counts_for_all() -> None:
    failed = replace(ELSEWHERE, tests=outcomes(one=FAILED))
    assert Evidence(IMAGE, (PROOF, failed)).tests["test_a.py::test_one"] == FAILED
