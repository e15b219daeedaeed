"""The GPU suite's own machinery, run by a real pytest on a suite that needs no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from images.attest import evidence, evidence_check
from images.attest.evidence import Gpu, Machine
from images.attest.verdict import judge_results
from images.repository import ROOT
from tests.gpu import recorder

TARGET = "torch280-sglang052"

PLUGIN = """
    import pathlib
    import pytest
    import tests.gpu.conftest as suite
    from images.attest.evidence import Gpu, Machine, ImageId
    from tests.gpu.recorder import Recorder

    suite.SUITE = pathlib.Path(__file__).parent / "tests" / "gpu"
    MACHINE = Machine((Gpu("NVIDIA H100 80GB HBM3", 79.2, "9.0"),), "580.1", "13.0", "6.18")

    def tested(subject):
        return ImageId("torch280-sglang052", subject, "sha256:c", "sha256:l", "0.1.0")

    suite.record.image_id_of = tested

    @pytest.fixture(scope="session")
    def seen(recorder, request):
        import os
        recorder.begin(os.environ["DIGEST"], MACHINE, "rootfs")
"""
TESTS = """
    import os
    import pytest

    pytestmark = pytest.mark.usefixtures("seen")

    @pytest.fixture
    def broken():
        raise RuntimeError("/a/path/of/this/machine")

    @pytest.fixture
    def breaks_at_the_end():
        yield
        assert "teardown" in os.environ.get("PASS", "")

    def test_passes(recorder):
        recorder.add_run("a start", {"import_s": 1.0, "first_token_s": 0.5, "ok": True,
                                     "compiled": {"triton": {"count": 1, "names": ["k"]}}})

    def test_skips():
        pytest.skip("no second GPU")

    def test_fails():
        assert "call" in os.environ.get("PASS", ""), "/a/path/of/this/machine"

    def test_cannot_begin(request):
        if "setup" not in os.environ.get("PASS", ""):
            request.getfixturevalue("broken")

    def test_cannot_end(breaks_at_the_end):
        pass
"""
SETUP_ERROR = """
    import os
    import pytest

    @pytest.fixture
    def begun(seen):
        assert "setup" in os.environ.get("PASS", ""), "/a/path/of/this/machine"

    def test_cannot_start(begun):
        pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "tests" / "gpu").mkdir(parents=True)
    (tmp_path / "plugin.py").write_text(textwrap.dedent(PLUGIN))
    (tmp_path / "tests" / "gpu" / "test_a.py").write_text(textwrap.dedent(TESTS))
    (tmp_path / "tests" / "gpu" / "test_b.py").write_text(textwrap.dedent(SETUP_ERROR))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    return tmp_path


def run(suite: Path, *options: str, passing: str = "", digest: str = "sha256:m") -> str:
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-p", "tests.conftest"]
    command += ["-p", "tests.gpu.conftest", "-p", "plugin", "-p", "no:cacheprovider"]
    command += ["--evidence", str(suite / "x.json"), *options]
    env = {**os.environ, "PYTHONPATH": f"{suite}:{ROOT}", "PASS": passing, "DIGEST": digest}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # hypothesis and testinfra take most of a start
    done = subprocess.run(command, cwd=suite, env=env, capture_output=True, text=True, check=False)
    assert "INTERNALERROR" not in done.stdout, done.stdout
    return done.stdout + done.stderr


def kept(suite: Path) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads((suite / "x.json").read_text())["proofs"]
    assert len(found) == 1
    return found[0]


def outcomes(suite: Path) -> dict[str, str]:
    return {name.partition("::")[2]: t["outcome"] for name, t in kept(suite)["tests"].items()}


ALL_PASSING = "call setup teardown"


def test_every_outcome_is_kept_and_no_path_of_the_machine(suite: Path) -> None:
    said = run(suite)
    assert outcomes(suite) == {
        "test_passes": "passed",
        "test_skips": "skipped",
        "test_fails": "failed",
        "test_cannot_begin": "failed",
        "test_cannot_end": "failed",
        "test_cannot_start": "failed",
    }
    assert kept(suite)["tests"]["test_a.py::test_skips"]["reason"] == "no second GPU"
    assert "of/this/machine" not in (suite / "x.json").read_text()
    assert str(ROOT) not in (suite / "x.json").read_text()
    assert "not proven: no (4 failed on H100 80GB HBM3)" in said


def test_engine_starts_are_kept(suite: Path) -> None:
    run(suite)
    assert kept(suite)["runs"]["a start"] == {
        "seconds": {"import": 1.0, "first token": 0.5},
        "memory_mib": {},
        "compiled": {"triton": {"count": 1, "names": ["k"]}},
    }


def test_all_passing_is_proven(suite: Path) -> None:
    said = run(suite, passing=ALL_PASSING)
    assert f"{TARGET} proven on H100 80GB HBM3, 20" in said
    found = evidence.read(suite / "x.json")
    assert judge_results(found, TARGET, "sha256:m").proven


@pytest.mark.parametrize("option", [["-k", "passes"], ["--deselect", "tests/gpu/test_a.py"]])
def test_a_part_of_the_suite_proves_nothing(suite: Path, option: list[str]) -> None:
    assert "not run)" in run(suite, *option, passing=ALL_PASSING)


def test_a_file_alone_proves_nothing(suite: Path) -> None:
    said = run(suite, "--ignore", "tests/gpu/test_b.py", passing=ALL_PASSING)
    assert "no (1 not run)" in said
    assert outcomes(suite)["test_cannot_start"] == "not run"


def test_calls_add_up(suite: Path) -> None:
    run(suite, passing=ALL_PASSING)
    assert "no (1 failed on H100 80GB HBM3)" in run(suite, "-k", "fails", passing="setup")
    assert "proven on" in run(suite, "-k", "fails", passing=ALL_PASSING)


def test_another_digest_starts_afresh(suite: Path) -> None:
    run(suite, passing=ALL_PASSING)
    said = run(suite, "-k", "passes", passing=ALL_PASSING, digest="sha256:n")
    assert "no (5 not run)" in said
    assert outcomes(suite)["test_passes"] == "passed"


def test_killed_run_keeps_what_it_found(suite: Path) -> None:
    test = suite / "tests" / "gpu" / "test_a.py"
    test.write_text(test.read_text().replace("test_skips():", "test_skips():\n    os._exit(9)"))
    run(suite)
    assert outcomes(suite)["test_passes"] == "passed"
    assert outcomes(suite)["test_skips"] == "not run"


def test_without_a_gpu_the_evidence_before_stays(suite: Path) -> None:
    run(suite, passing=ALL_PASSING)
    before = (suite / "x.json").read_bytes()
    for name in ("test_a.py", "test_b.py"):
        test = suite / "tests" / "gpu" / name
        test.write_text("def test_passes():\n    assert False\n")
    assert "no evidence kept: no GPU was seen" in run(suite)
    assert (suite / "x.json").read_bytes() == before


def test_the_real_suite_is_found() -> None:
    names = evidence_check.suite(ROOT / "tests" / "gpu")
    assert "test_torch.py::test_torch_computes_what_the_cpu_computes" in names
    assert len(names) > 20


def test_machine_is_what_the_driver_reports() -> None:
    answer = {
        "cuda": [13, 0],
        "driver": "580.1",
        "devices": [{"name": "NVIDIA H100", "capability": [9, 0], "memory_gib": 79.2}],
    }
    gpu = Gpu("NVIDIA H100", 79.2, "9.0")
    assert recorder.machine_of(answer, "6.18") == Machine((gpu,), "580.1", "13.0", "6.18")
