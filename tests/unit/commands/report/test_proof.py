"""The line at the end of a build that reports whether the image is proven."""

from __future__ import annotations

from pathlib import Path

from images.attest import evidence, evidence_check
from images.attest.evidence import Evidence, Gpu, ImageId, Machine, Outcome, Proof
from images.commands.report import proof
from images.inputs.matrix.load import load
from images.repository import ROOT

HERE = next(row for row in load(ROOT / "matrix.yaml").targets if not row.flavour)
NAME = f"evidence/{HERE.id}.json"
DIGEST = f"sha256:{'1' * 64}"


def keep(beside: Path, outcome: str = "passed") -> None:
    image = ImageId(HERE.id, DIGEST, f"sha256:{'2' * 64}", f"sha256:{'3' * 64}", "1.0")
    machine = Machine((Gpu("NVIDIA H200", 139.0, "9.0"),), "580", "13.0", "6.1")
    tests = dict.fromkeys(evidence_check.suite(evidence_check.GPU_SUITE), Outcome("passed"))
    tests[min(tests)] = Outcome(outcome)
    made = Proof(machine, "docker", "2026-11-26T10:00:00Z", tests, {})
    evidence.write(evidence.path_of(beside, HERE.id), Evidence(image, (made,)))


def test_proven_image_names_the_gpu_and_the_day(tmp_path: Path) -> None:
    keep(tmp_path / "matrix.yaml")
    assert proof.line(tmp_path / "matrix.yaml", HERE, DIGEST) == "proven on H200, 2026-11-26"


def test_image_of_another_digest_names_the_proven_one(tmp_path: Path) -> None:
    keep(tmp_path / "matrix.yaml")
    found = proof.line(tmp_path / "matrix.yaml", HERE, f"sha256:{'4' * 64}")
    assert found == f"not proven ({NAME} is of {DIGEST})"


def test_failed_image_is_reported(tmp_path: Path) -> None:
    keep(tmp_path / "matrix.yaml", "failed")
    found = proof.line(tmp_path / "matrix.yaml", HERE, DIGEST)
    assert found == f"not proven ({NAME}: 1 failed on H200)"


def test_missing_evidence_is_reported(tmp_path: Path) -> None:
    found = proof.line(tmp_path / "matrix.yaml", HERE, DIGEST)
    assert found == f"not proven (there is no {NAME})"


def test_damaged_evidence_does_not_fail_a_build(tmp_path: Path) -> None:
    path = evidence.path_of(tmp_path / "matrix.yaml", HERE.id)
    path.parent.mkdir()
    path.write_text("{}")
    found = proof.line(tmp_path / "matrix.yaml", HERE, DIGEST)
    assert found == f"not proven ({NAME} cannot be read)"
