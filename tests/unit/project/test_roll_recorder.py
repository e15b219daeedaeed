"""What the tests of ROLL's own code leave as evidence, beside that of the GPU suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from images.attest import evidence, evidence_check
from images.attest.evidence import Gpu, ImageId, Machine, Outcome, RollRun
from images.attest.verdict import judge_results
from images.commands.test.roll_checkout import RollCheckout
from images.repository import ROOT
from tests.gpu import recorder as record
from tests.gpu.recorder import Recorder

TARGET, DIGEST = "torch280-sglang052", "sha256:m"
MACHINE = Machine((Gpu("NVIDIA H200", 139.8, "9.0"),), "580.1", "13.0", "6.18")
COMMIT = "8eb27cc2" + "0" * 32


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two suites: one GPU test, and two of ROLL's."""
    for name, text in (
        ("gpu/test_g.py", "def test_starts(): ...\n"),
        ("roll/test_r.py", "def test_updates(): ...\n\n\ndef test_offloads(): ...\n"),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    image = ImageId(TARGET, DIGEST, "sha256:c", "sha256:l", "0.1.0")
    monkeypatch.setattr(record, "image_id_of", lambda subject: image)
    return tmp_path


def run(suites: Path, folder: str, **outcomes: Any) -> None:
    """One session of a suite on one machine."""
    roll = RollCheckout(suites, COMMIT, dirty=False) if folder == "roll" else None
    found = Recorder(suites / "x.json", suites / "gpu", suites / "roll" if roll else None)
    subject: Any = None
    found.begin(subject, MACHINE, "rootfs", roll)
    for name, outcome in outcomes.items():
        report = pytest.TestReport(
            nodeid=f"tests/{folder}/test_{folder[0]}.py::test_{name}",
            location=("", 0, ""),
            keywords={},
            outcome=outcome,
            longrepr=None,
            when="call",
            duration=1.0,
        )
        record.note(found, f"tests/{folder}", report.nodeid, "call", report)
    found.write()


def kept(suites: Path) -> RollRun:
    found = evidence.read(suites / "x.json")
    assert found is not None
    (proof,) = found.proofs
    assert proof.roll is not None
    return proof.roll


def words(suites: Path) -> str:
    return judge_results(evidence.read(suites / "x.json"), TARGET, DIGEST).text


def test_both_suites_leave_one_proof_in_any_order(suites: Path) -> None:
    run(suites, "roll", updates="passed", offloads="passed")
    assert words(suites) == "no (1 not run)"
    run(suites, "gpu", starts="passed")
    assert words(suites).endswith(" with ROLL 8eb27cc2")
    run(suites, "roll", updates="failed")
    assert words(suites) == "no (ROLL 8eb27cc2: 1 failed on H200)"
    run(suites, "gpu", starts="passed")
    assert kept(suites).tests["test_r.py::test_offloads"].outcome == "passed"


def test_a_session_of_roll_after_the_other_adds_up(suites: Path) -> None:
    run(suites, "gpu", starts="passed")
    run(suites, "roll", updates="passed")
    assert kept(suites).tests["test_r.py::test_offloads"] == Outcome("not run")
    assert words(suites).endswith(" with ROLL 8eb27cc2 (1 not run)")
    run(suites, "roll", offloads="passed")
    assert words(suites).endswith(" with ROLL 8eb27cc2")


def test_the_real_suite_is_found() -> None:
    names = evidence_check.suite(ROOT / "tests" / "roll")
    assert "test_job.py::test_the_engine_follows_the_new_weights" in names
    assert len(names) > 40
