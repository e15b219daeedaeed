"""The GPUs that the image serves: the rule, the refusal of an engine, and what doctor reports.

The driver's libraries are compiled here, from a few lines of C: what is asked of them is asked for
real, by ctypes and in a child process.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from roll_runtime.findings import Check, Status
from runtime_support import Run, Trees, run_module

from roll_runtime import doctor_gpu, gpu, nvml, served, versions

AMPERE, HOPPER = (8, 0), (9, 0)
REFUSED = "H100 has compute capability 9.0, and this image serves 8.0: use an image whose name"

# GPUs by FAKE_GPUS, e.g. "80 90"; CUDA_VISIBLE_DEVICES is one digit, and CUDA alone knows it.
DRIVER = r"""
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
static int all(int *found) {
    const char *text = getenv("FAKE_GPUS"); int count = 0, used;
    while (sscanf(text, "%d%n", &found[count], &used) == 1) { text += used; count++; }
    return count;
}
int nvmlInit_v2(void) { return getenv("NO_NVML") ? 1 : 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { return 1; }
int nvmlDeviceGetCount_v2(int *count) { int found[9]; *count = all(found); return 0; }
int nvmlDeviceGetHandleByIndex_v2(int index, void **handle) {
    *handle = (void *)(long)index; return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    int found[9], one = (all(found), found[(long)handle]);
    *major = one / 10; *minor = one % 10; return 0;
}
static int visible(int *found) {
    int every[9], count = all(every); const char *one = getenv("CUDA_VISIBLE_DEVICES");
    if (!one) { memcpy(found, every, sizeof every); return count; }
    found[0] = every[one[0] - '0']; return 1;
}
int cuInit(int flags) { return getenv("BROKEN") ? 100 : 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { int found[9]; *count = visible(found); return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    int found[9]; visible(found); strcpy(name, found[device] == 90 ? "H100" : "GPU"); return 0;
}
int cuDeviceTotalMem_v2(size_t *size, int device) { *size = 80ull << 30; return 0; }
int cuDeviceGetPCIBusId(char *text, int size, int device) {
    strcpy(text, "0000:0F:00.0"); return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int found[9], one = (visible(found), found[device]);
    *value = attribute == 75 ? one / 10 : one % 10; return 0;
}
"""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which both of the driver's libraries are found."""
    if shutil.which("cc") is None:
        pytest.skip("needs cc to compile a driver")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        command = ["cc", "-shared", "-fPIC", "-w", "-o", name, "driver.c"]
        subprocess.run(command, cwd=folder, check=True)
    return {"LD_LIBRARY_PATH": str(folder)}


def test_what_the_variable_says() -> None:
    assert served.served({"ROLL_RUNTIME_GPUS": "8.0 9.0 12.1"}) == (AMPERE, HOPPER, (12, 1))
    assert served.served({"ROLL_RUNTIME_GPUS": "8.0,9.0"}) == (AMPERE, HOPPER)
    assert served.served({"ROLL_RUNTIME_GPUS": ""}) == ()
    assert served.served({}) == ()
    with pytest.raises(RuntimeError, match="ROLL_RUNTIME_GPUS=sm_90 is no list of compute cap"):
        served.served({"ROLL_RUNTIME_GPUS": "sm_90"})


@pytest.mark.parametrize(
    ("capability", "image", "runs"),
    [
        ((9, 0), (AMPERE, HOPPER), True),
        ((8, 9), (AMPERE,), True),
        ((8, 0), ((8, 6),), False),
        ((9, 0), (AMPERE,), False),
        ((10, 3), ((10, 0),), True),
        ((12, 0), ((10, 0), (12, 1)), False),
    ],
)
def test_code_runs_on_later_gpus_of_the_same_major_version(
    capability: tuple[int, int], image: tuple[tuple[int, int], ...], runs: bool
) -> None:
    assert served.runs(capability, image) == runs


def test_the_refusal_names_what_serves_the_gpu() -> None:
    assert "an image whose name has no -smNN" in served.refusal("A100", AMPERE, (HOPPER,))
    assert "--target ID --gpu 8.0)" in served.refusal("A100", AMPERE, (HOPPER,))
    assert "an image for CUDA 13 whose name" in served.refusal("B200", (10, 0), (AMPERE, HOPPER))
    assert "no image serves it" in served.refusal("T4", (7, 5), (AMPERE, HOPPER))


@pytest.mark.parametrize(
    ("arguments", "gpus"),
    [
        ({}, [0]),
        ({"tp_size": 2}, [0, 1]),
        ({"tp_size": 2, "base_gpu_id": 3}, [3, 4]),
        ({"tp_size": 2, "gpu_id_step": 2}, [0, 2]),
        ({"tp_size": 2, "pp_size": 2, "nnodes": 2}, [0, 1]),
        ({"tp_size": 2, "dp_size": 2}, [0, 1, 2, 3]),
        ({"tp_size": 2, "dp_size": 2, "enable_dp_attention": True}, [0, 1]),
        ({"tp_size": 8, "nnodes": 0, "base_gpu_id": None}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"base_gpu_id": 8}, []),
    ],
)
def test_gpus_of_an_engine(arguments: dict[str, Any], gpus: list[int]) -> None:
    assert list(served.used(SimpleNamespace(**arguments), 8)) == gpus


def start(
    run_engine: Run, version: str, driver: dict[str, str], environ: str, **arguments: Any
) -> Any:
    """The error of an engine's start, with a driver and variables as a shell writes them."""
    env = dict(word.split("=", 1) for word in environ.split(";"))
    result = run_engine(version, {**driver, **env}, server_args=arguments)
    assert (result["starts"] == []) == bool(result["error"])
    return result["error"]


def test_an_engine_on_another_gpu_is_refused(
    run_engine: Run, version: str, driver: dict[str, str]
) -> None:
    error = start(run_engine, version, driver, "FAKE_GPUS=90;ROLL_RUNTIME_GPUS=8.0")
    assert error.startswith(REFUSED)
    assert start(run_engine, version, driver, "FAKE_GPUS=90;ROLL_RUNTIME_GPUS=8.0 9.0") is None
    assert start(run_engine, version, driver, "FAKE_GPUS=90;ROLL_RUNTIME_GPUS=") is None


NEWEST = versions.SUPPORTED[-1]


@pytest.mark.parametrize(
    ("environ", "arguments", "refused"),
    [
        ("FAKE_GPUS=80 90", {}, False),
        ("FAKE_GPUS=80 90", {"tp_size": 2}, True),
        ("FAKE_GPUS=80 90", {"base_gpu_id": 1}, True),
        ("FAKE_GPUS=80 90;CUDA_VISIBLE_DEVICES=1", {}, True),
        ("FAKE_GPUS=90 80;CUDA_VISIBLE_DEVICES=1", {}, False),
        ("FAKE_GPUS=90;NO_NVML=1", {}, True),
        ("FAKE_GPUS=90;NO_NVML=1;BROKEN=1", {}, False),
    ],
)
def test_the_engines_own_gpus_decide(
    run_engine: Run,
    driver: dict[str, str],
    environ: str,
    arguments: dict[str, Any],
    refused: bool,
) -> None:
    given = f"{environ};ROLL_RUNTIME_GPUS=8.0"
    error = start(run_engine, NEWEST, driver, given, **arguments)
    assert error is None or error.startswith(REFUSED)
    assert (error is not None) == refused


def test_without_a_driver_nothing_is_refused(run_engine: Run, sglang_tree: Trees) -> None:
    result = run_engine(NEWEST, {"ROLL_RUNTIME_GPUS": "8.0"}, server_args={})
    assert result["error"] is None, result["trace"]


def test_nvml_that_is_missing_reports_no_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert nvml.capabilities() is None
    assert "error" in gpu.ask()


# -- doctor ----------------------------------------------------------------------------------------


def checks(monkeypatch: pytest.MonkeyPatch, gpus: str) -> dict[str, Check]:
    monkeypatch.setenv("ROLL_RUNTIME_GPUS", gpus)
    monkeypatch.setattr(doctor_gpu, "torch_cuda", lambda: (12, 8))
    monkeypatch.setattr(doctor_gpu, "torch_archs", lambda: ["sm_80", "sm_90"])
    device = {"name": "H100", "capability": [9, 0], "memory_gib": 80.0}
    found = list(doctor_gpu.check_gpu(lambda: {"cuda": [12, 8], "devices": [device]}))
    return {check.name: check for check in found}


def test_doctor_reports_served_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    found = checks(monkeypatch, "8.0 9.0")
    assert found["served GPUs"].found == "compute capability 8.0, 9.0 (ROLL_RUNTIME_GPUS)"
    assert found["gpu"].status is Status.OK


def test_doctor_fails_on_another_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_check = checks(monkeypatch, "8.0")["gpu"]
    assert gpu_check.status is Status.FAIL
    assert gpu_check.remedy.startswith(REFUSED)


def test_doctor_reports_a_list_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "served GPUs" not in checks(monkeypatch, "")
    found = checks(monkeypatch, "all")
    assert found["served GPUs"].status is Status.FAIL
    assert found["gpu"].status is Status.OK


def test_doctor_in_an_image(python: Path, driver: dict[str, str]) -> None:
    gpus = {"FAKE_GPUS": "80 90", "ROLL_RUNTIME_GPUS": "8.0"}
    done = run_module(python, "doctor", **driver, **gpus)
    assert "ok    served GPUs: compute capability 8.0 (ROLL_RUNTIME_GPUS)" in done.stdout
    assert "ok    gpu: GPU, sm_80, 80.0 GiB" in done.stdout
    assert f"fail  gpu: H100, sm_90, 80.0 GiB\n      -> {REFUSED}" in done.stdout
