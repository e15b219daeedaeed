"""The machine's driver, and what the image says of the two together."""

from __future__ import annotations

import json

from images import image_paths
from images.attest.evidence import Machine
from tests.gpu import engines
from tests.image.box import Box
from tests.image.subject import Subject


def test_driver_is_the_hosts(gpu: Box, machine: Machine) -> None:
    """One of the image's own, or the linker's stub, would take its place."""
    listed = gpu.run("/sbin/ldconfig -p | grep 'libcuda\\.so' || true")
    assert f"/{image_paths.CUDA_HOME}" not in listed
    print(machine)
    assert machine.driver, "the driver's management library tells its version"


def test_doctor_finds_nothing_that_would_fail(gpu: Box) -> None:
    done = gpu.attempt("python -m roll_runtime doctor --json")
    answer = json.loads(done.stdout)
    assert [item for item in answer["checks"] if item["status"] == "fail"] == []
    assert answer["ok"]
    assert done.rc == 0
    names = {item["name"] for item in answer["checks"] if item["status"] == "ok"}
    assert {"gpu", "nvcc", "torch architectures"} <= names


def test_doctor_tells_people(gpu: Box, machine: Machine) -> None:
    done = gpu.attempt("python -m roll_runtime doctor")
    print(done.stdout)
    assert done.stdout.splitlines()[-1] == "all is well"
    assert f"ok    gpu: {machine.gpus[0].name}" in done.stdout
    assert "ok    torch architectures" in done.stdout
    assert "ok    served GPUs: compute capability" in done.stdout


def test_engine_on_a_gpu_that_is_not_served_is_refused(
    gpu: Box, machine: Machine, subject: Subject
) -> None:
    """Before anything is compiled or loaded, with the sentence that names what serves the GPU."""
    engines.need_engine(subject)
    first = machine.gpus[0]
    other = "9.0" if first.capability.startswith("8.") else "8.0"
    done = gpu.attempt("python -m roll_runtime smoke --json", env={"ROLL_RUNTIME_GPUS": other})
    result = json.loads(done.stdout[done.stdout.index("{") :])
    print(result["faults"])
    reason = f"{first.name} has compute capability {first.capability}, and this image serves "
    assert any(f"{reason}{other}: use an image" in fault for fault in result["faults"])
    assert not result["ok"]
    # Importing some releases is enough for Triton to compile its helper, where the image has none.
    compiled = result["compiled"].get("triton", {"names": ["cuda_utils"]})
    assert compiled["names"] == ["cuda_utils"]
    assert set(result["compiled"]) <= {"triton"}
