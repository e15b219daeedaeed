"""ROLL's own code in images of a kit, which runs where a checkout of ROLL is named."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from images.attest import evidence
from images.attest.evidence import NOT_RUN, PASSED, Evidence, ImageId, Outcome
from images.export.kit.document import Kit, KitTarget
from images.export.kit.proving import LATER, PROVEN, Session
from tests.unit import kits, whole_proofs

TARGET = "torch280-sglang052-roll"
DIGEST = f"sha256:{'a' * 64}"
_TEST = """
import pathlib
from dataclasses import replace

from images.attest import evidence
from tests.unit import whole_proofs


def test_stand_in(pytestconfig):
    assert pathlib.Path(pytestconfig.getoption("--roll")).name == "ROLL"
    path = pathlib.Path(pytestconfig.getoption("--evidence"))
    found = evidence.read(path)
    proof = replace(found.proofs[0], roll=whole_proofs.roll())
    evidence.write(path, replace(found, proofs=(proof,)))
"""


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A run whose image is unpacked, and has passed the GPU tests."""
    for name in ("stand-in", "ROLL"):
        (tmp_path / name).mkdir()
    place = tmp_path / f"work/image-{TARGET}-{DIGEST[7:19]}"
    place.mkdir(parents=True)
    (place / "whole").touch()
    image = ImageId(TARGET, DIGEST, DIGEST, DIGEST, "0.1.0")
    path = tmp_path / f"evidence/{TARGET}.json"
    evidence.write(path, Evidence(image, (whole_proofs.proof(),)))
    (tmp_path / "stand-in/conftest.py").write_text(kits.CONFTEST)
    (tmp_path / "stand-in/test_stand_in.py").write_text(_TEST)
    target = KitTarget(TARGET, DIGEST, whole_proofs.SINCE)
    tests = (str(tmp_path / "stand-in"),)
    kit = Kit((target,), "", "matrix.yaml", {}, gpu_tests=("nowhere",), roll_tests=tests)
    return kits.session(kit, tmp_path)


def test_rolls_own_code_is_not_reached_without_a_checkout(session: Session) -> None:
    result = session.prove(0)
    assert (result.state, result.detail.endswith("--roll CHECKOUT")) == (LATER, True)


def test_rolls_own_code_runs_with_a_checkout(session: Session) -> None:
    result = replace(session, roll=session.directory / "ROLL").prove(0)
    assert result.state == PROVEN, (session.evidence / f"{TARGET}.log").read_text()
    assert "with ROLL 8eb27cc2" in result.detail
    assert not [*session.work.glob("image-*")]


_NETWORK = """
import pathlib
import socket


def test_network():
    names = [name for _, name in socket.if_nameindex()]
    (pathlib.Path(__file__).parent / "names").write_text(" ".join(names))
    socket.create_server(("127.0.0.1", 6379)).close()  # as of a Ray: up, and nobody's else
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
def test_rolls_own_code_has_a_network_of_its_own_beside_another_image(session: Session) -> None:
    test = session.directory / "stand-in/test_stand_in.py"
    test.write_text(_NETWORK)
    replace(session, roll=session.directory / "ROLL", together=2).prove(0)
    assert (test.parent / "names").read_text() == "lo"
    assert "1 passed" in (session.evidence / f"{TARGET}.log").read_text()


_ELSEWHERE = """
import pathlib
from dataclasses import replace

from images.attest import evidence
from tests.unit import whole_proofs


def test_it(pytestconfig):
    path, here = pathlib.Path(pytestconfig.getoption("--evidence")), pathlib.Path(__file__)
    with (here.parent.parent / "ran").open("a") as ran:
        print(here.parent.name, file=ran)
    old, whole = evidence.read(path), whole_proofs.proof()
    now = replace(whole, machine=replace(whole.machine, driver="600"), tests={})
    now = replace(now, **({"roll": whole_proofs.roll()} if here.parent.name == "roll"
                          else {"tests": whole.tests}))
    rolls = whole_proofs.roll().tests if now.roll else ()
    evidence.write(path, evidence.add(old, old.image, now, whole.tests, rolls))
"""


def test_what_another_machine_proved_of_the_other_suite_is_run_here(session: Session) -> None:
    place = session.directory / "suites"
    for name in ("gpu", "roll"):
        (place / name).mkdir(parents=True)
        (place / name / "conftest.py").write_text(kits.CONFTEST)
        (place / name / f"test_{name}.py").write_text(_ELSEWHERE)
    kit = replace(session.kit, gpu_tests=(str(place / "gpu"),), roll_tests=(str(place / "roll"),))
    here = replace(session, kit=kit, roll=session.directory / "ROLL")
    result = here.prove(0)
    assert result.state == PROVEN, (session.evidence / f"{TARGET}.log").read_text()
    assert (place / "ran").read_text().split() == ["roll", "gpu"]


def test_rolls_own_code_does_not_run_where_a_gpu_test_fails(session: Session) -> None:
    path = session.evidence / f"{TARGET}.json"
    found = evidence.read(path)
    assert found
    bad = dict.fromkeys(found.proofs[0].tests, Outcome("failed"))
    evidence.write(path, replace(found, proofs=(replace(found.proofs[0], tests=bad),)))
    failing = session.directory / "failing"
    failing.mkdir()
    (failing / "conftest.py").write_text(kits.CONFTEST)
    (failing / "test_failing.py").write_text("def test_it():\n    raise AssertionError\n")
    kit = replace(session.kit, gpu_tests=(str(failing),))
    replace(session, kit=kit, roll=session.directory / "ROLL").prove(0)
    log = (session.evidence / f"{TARGET}.log").read_text()
    assert "test_it FAILED" in log
    assert "test_stand_in" not in log


_PART = """
import pathlib
from dataclasses import replace

from images.attest import evidence
from images.attest.evidence import Outcome
from tests.unit import whole_proofs

NAME = pathlib.Path(__file__).name


def test_it(pytestconfig):
    with (pathlib.Path(__file__).parent / "ran").open("a") as ran:
        print(NAME, file=ran)
    path = pathlib.Path(pytestconfig.getoption("--evidence"))
    old, tests = evidence.read(path), {f"{NAME}::test_it": Outcome("passed")}
    now = replace(whole_proofs.proof(), tests=tests, date="2027-01-01T00:00:00Z")
    evidence.write(path, evidence.add(old, old.image, now, [*tests, "test_a.py::test_it"]))
"""


def test_what_another_machine_proved_of_a_suite_is_completed_here(session: Session) -> None:
    parts = session.directory / "parts"
    parts.mkdir()
    (parts / "conftest.py").write_text(kits.CONFTEST)
    for name in ("test_a.py", "test_b.py"):
        (parts / name).write_text(_PART)
    tests = {"test_a.py::test_it": Outcome(PASSED), "test_b.py::test_it": Outcome(NOT_RUN)}
    unfinished = replace(whole_proofs.proof("NVIDIA H100"), tests=tests)
    image = ImageId(TARGET, DIGEST, DIGEST, DIGEST, "0.1.0")
    evidence.write(session.evidence / f"{TARGET}.json", Evidence(image, (unfinished,)))
    replace(session, kit=replace(session.kit, gpu_tests=(str(parts),))).prove(0)
    assert (parts / "ran").read_text().split() == ["test_b.py", "test_a.py"]
