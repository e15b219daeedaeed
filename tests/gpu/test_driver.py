"""The machine's driver, and what the image says of the two together."""

from __future__ import annotations

import json

from images import image_paths
from images.attest.evidence import Machine
from tests.image.box import Box


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
