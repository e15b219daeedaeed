"""Which tests the evidence of a kit's image lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from images.attest import evidence
from images.attest.evidence import FAILED, NOT_RUN, Evidence, ImageId, Outcome, Proof
from images.export.kit.document import Kit, KitTarget
from images.export.kit.results import GPU, ROLL, Results
from tests.unit import whole_proofs

TARGET = "torch280-sglang052-roll"
DIGEST = f"sha256:{'a' * 64}"
KIT = Kit((KitTarget(TARGET, DIGEST, whole_proofs.SINCE),), "", "matrix.yaml", {})
(THE_TARGET,) = KIT.targets


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(KIT, tmp_path / "kit", tmp_path, with_roll=True)


def keep(results: Results, proof: Proof) -> None:
    image = ImageId(TARGET, DIGEST, DIGEST, DIGEST, "0.1.0")
    evidence.write(results.path(THE_TARGET), Evidence(image, (proof,)))


def with_outcome(proof: Proof, outcome: str, *modules: str) -> Proof:
    """A proof in which the tests of some modules have another outcome."""
    changed = {
        name: Outcome(outcome) if name.startswith(modules) else test
        for name, test in proof.tests.items()
    }
    return replace(proof, tests=changed)


def test_without_evidence_all_modules_are_lacking(results: Results) -> None:
    assert results.todo(THE_TARGET) == [GPU, ROLL]
    assert not results.failed(THE_TARGET, GPU)
    modules = results.modules(THE_TARGET, GPU)
    assert "tests/gpu/test_engine.py" in modules
    assert "tests/roll/test_job.py" in results.modules(THE_TARGET, ROLL)
    keep(results, whole_proofs.proof())
    assert results.todo(THE_TARGET) == [ROLL]
    assert results.modules(THE_TARGET, GPU) == []


@pytest.mark.parametrize(("outcome", "failed"), [(NOT_RUN, False), (FAILED, True)])
def test_modules_that_were_not_run_or_failed_are_lacking(
    results: Results, outcome: str, failed: bool
) -> None:
    modules = ("test_memory.py", "test_torch.py")
    keep(results, with_outcome(whole_proofs.proof(), outcome, *modules))
    assert results.modules(THE_TARGET, GPU) == [f"tests/gpu/{name}" for name in modules]
    assert results.failed(THE_TARGET, GPU) is failed
    assert GPU in results.todo(THE_TARGET)


def test_rolls_failures_are_its_own(results: Results) -> None:
    run = whole_proofs.roll()
    bad = replace(run, tests={**run.tests, "test_job.py::test_a_job_is_done": Outcome(FAILED)})
    keep(results, replace(whole_proofs.proof(), roll=bad))
    assert (results.failed(THE_TARGET, GPU), results.failed(THE_TARGET, ROLL)) == (False, True)
    assert results.todo(THE_TARGET) == [ROLL]


def test_a_test_that_came_since_is_lacking(results: Results) -> None:
    proof, run = whole_proofs.proof(), whole_proofs.roll()
    older = {name: test for name, test in proof.tests.items() if "test_torch" not in name}
    keep(results, replace(proof, tests=older, roll=run))
    assert results.todo(THE_TARGET) == [GPU]
    assert results.modules(THE_TARGET, GPU) == ["tests/gpu/test_torch.py"]
    older = {name: test for name, test in run.tests.items() if "test_job" not in name}
    keep(results, replace(proof, roll=replace(run, tests=older)))
    assert results.todo(THE_TARGET) == [ROLL]


def test_evidence_of_another_digest_does_not_count(results: Results) -> None:
    image = ImageId(TARGET, f"sha256:{'b' * 64}", DIGEST, DIGEST, "0.1.0")
    evidence.write(results.path(THE_TARGET), Evidence(image, (whole_proofs.proof(),)))
    assert results.todo(THE_TARGET) == [GPU, ROLL]
