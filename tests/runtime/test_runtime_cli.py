"""``doctor``: its report without a GPU, and on GPUs that the test makes up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from roll_runtime.findings import Check, Status
from runtime_support import run_module as run

from roll_runtime import doctor, doctor_gpu, doctor_software, gpu


def test_doctor_json(python: Path) -> None:
    done = run(python, "doctor", "--json")
    report = json.loads(done.stdout)
    checks = {check["name"]: check for check in report["checks"]}
    assert done.returncode == 1
    assert not report["ok"]
    assert checks["sglang"]["status"] == "fail"
    assert checks["autoload"]["status"] == "ok"
    assert checks["CUDA_DEVICE_MAX_CONNECTIONS"]["found"] == "unset -> 4"
    for check in report["checks"]:
        assert (check["status"] == "ok") or check["remedy"] or check["name"] == "driver"


def test_doctor_text_names_the_remedy(python: Path) -> None:
    done = run(python, "doctor", ROLL_RUNTIME_AUTOLOAD="0", NCCL_CUMEM_ENABLE="1")
    assert done.returncode == 1
    assert "fail  autoload: off (ROLL_RUNTIME_AUTOLOAD=0)" in done.stdout
    assert "-> Unset ROLL_RUNTIME_AUTOLOAD" in done.stdout
    assert "warn  NCCL_CUMEM_ENABLE: fixed to 1" in done.stdout


@pytest.mark.parametrize(
    ("driver", "image", "status", "text"),
    [
        ((12, 8), (12, 8), Status.OK, ""),
        ((13, 0), (12, 8), Status.OK, ""),
        ((12, 2), (12, 8), Status.WARN, "minor-version compatibility"),
        ((12, 8), (13, 0), Status.FAIL, "580.65.06 or later, or use an image for CUDA 12"),
        ((11, 4), (12, 4), Status.FAIL, "525.60.13"),
        ((12, 8), None, Status.WARN, "not known"),
    ],
)
def test_driver_against_image(
    driver: tuple[int, int], image: tuple[int, int] | None, status: Status, text: str
) -> None:
    check = doctor_gpu.driver_check(driver, image)
    assert check.status is status
    assert text in check.found + check.remedy


def gpu_checks(answer: dict[str, Any]) -> list[Check]:
    return list(doctor_gpu.check_gpu(lambda: answer))


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((9, 0), ["sm_90a"], True),
        ((12, 0), ["sm_100", "sm_90a"], False),
        ((12, 0), ["sm_120"], True),
        ((10, 3), ["sm_100"], True),
        ((10, 3), ["sm_100a"], False),
        ((9, 0), [], False),
        ((9, 0), ["gfx942"], False),
    ],
)
def test_architectures(capability: tuple[int, int], archs: list[str], runs: bool) -> None:
    assert doctor_gpu.runs_on(capability, archs) == runs


def test_gpu_without_code_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_gpu, "torch_cuda", lambda: (12, 8))
    monkeypatch.setattr(doctor_gpu, "torch_archs", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(doctor_gpu, "_nvcc_release", lambda: (12, 4))
    device = {"name": "B200", "capability": [10, 0], "memory_gib": 180.0}
    checks = {check.name: check for check in gpu_checks({"cuda": [13, 0], "devices": [device]})}
    assert checks["torch architectures"].status is Status.FAIL
    assert "none runs on sm_100" in checks["torch architectures"].found
    assert "need nvcc 12.8 or later" in checks["nvcc architectures"].remedy


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_gpu, "torch_cuda", lambda: (12, 6))
    monkeypatch.setattr(doctor_gpu, "torch_archs", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(doctor_gpu, "_nvcc_release", lambda: (12, 4))

    def answer(*capability: int) -> dict[str, Any]:
        device = {"name": "GPU", "capability": list(capability), "memory_gib": 80.0}
        return {"cuda": [12, 8], "devices": [device]}

    assert {check.status for check in gpu_checks(answer(9, 0))} == {Status.OK}
    assert gpu_checks(answer(7, 5))[1].status is Status.FAIL
    assert "Blackwell" in gpu_checks(answer(10, 0))[1].remedy
    assert gpu_checks({"cuda": [12, 8], "devices": []})[1].found == "none visible"
    (check,) = gpu_checks({"error": "libcuda.so.1 cannot be loaded"})
    assert check.status is Status.FAIL
    assert "--gpus all" in check.remedy


def test_torch_cuda_is_read_without_importing_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "torch"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemError\n")
    monkeypatch.setattr(doctor_software, "_package_folder", lambda name: folder)
    file = folder / "version.py"
    file.write_text("__version__ = '2.8.0+cu128'\ncuda: Optional[str] = '12.8'\nhip = None\n")
    assert doctor_software.torch_cuda() == (12, 8)
    file.write_text("__version__ = '2.8.0+cpu'\ncuda: Optional[str] = None\n")
    assert doctor_software.torch_cuda() is None


def test_pins_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = ["sgl-kernel==0.3.9.post2; extra == 'srt'", "flashinfer_python==0.3.1", "torch==2.8.0"]
    pins += ["sgl-kernel==0.3.9.post2; extra == 'blackwell'"]
    found = {"sgl-kernel": "0.3.9.post2+cu128", "flashinfer-python": "0.3.0"}
    monkeypatch.setattr(doctor_software, "_requirements", lambda name: pins)
    monkeypatch.setattr(doctor_software, "_installed", found.get)
    found_checks = list(doctor_software.check_packages())
    checks = {check.name: check for check in found_checks}
    assert len(checks) == len(found_checks), "each is reported once"
    assert checks["sgl-kernel"].status is Status.OK
    assert checks["flashinfer-python"].status is Status.WARN
    assert checks["flashinfer-python"].remedy == "pip install flashinfer-python==0.3.1"
    assert checks["torch-memory-saver"].status is Status.WARN


def test_broken_check_does_not_end_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_this() -> Iterator[Check]:
        raise OSError("no such thing")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (check_this, doctor_software.check_python))
    first, second = doctor.diagnosis()
    assert first.status is Status.FAIL
    assert "no such thing" in first.found
    assert second.status is Status.OK


def test_driver_that_hangs_costs_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: Any, timeout: float, **options: Any) -> None:
        raise subprocess.TimeoutExpired("driver", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert gpu.ask_in_child(0.1)["error"] == "the driver did not answer within 0.1 s"
