"""`doctor` reports whether FlashInfer would download kernels."""

from __future__ import annotations

import pytest
from roll_runtime.doctor_kernels import check_downloads
from roll_runtime.findings import Check, Status

from roll_runtime import doctor_kernels, nvml

HOPPER, BLACKWELL = (9, 0), (10, 3)


class Machine:
    """What the check sees: versions, GPUs and variables."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        for name in ("FLASHINFER_NO_DOWNLOAD", "FLASHINFER_CUBIN_DIR", "ROLL_RUNTIME_GPUS"):
            patch.delenv(name, raising=False)

    def check(
        self, cubin: str = "", gpus: list[tuple[int, int]] | None = None, **variables: str
    ) -> Check:
        versions = {"flashinfer-python": "0.6.17", "flashinfer-cubin": cubin}
        self._patch.setattr(doctor_kernels, "_version", versions.__getitem__)
        self._patch.setattr(nvml, "capabilities", lambda: gpus)
        for name, value in variables.items():
            self._patch.setenv(name, value)
        (found,) = check_downloads()
        return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_hopper_needs_none(machine: Machine) -> None:
    found = machine.check(gpus=[HOPPER], FLASHINFER_NO_DOWNLOAD="1")
    assert found.status is Status.OK
    assert "asks for none" in found.found
    assert "FLASHINFER_NO_DOWNLOAD refuses downloads" in found.found


def test_blackwell_without_kernels_is_a_warning_with_what_to_do(machine: Machine) -> None:
    found = machine.check(gpus=[HOPPER, BLACKWELL])
    assert found.status is Status.WARN
    assert "it may download" in found.found
    assert "FLASHINFER_CUBIN_DIR" in found.remedy


@pytest.mark.parametrize("value", ["1", ""])
def test_an_empty_variable_refuses_nothing(machine: Machine, value: str) -> None:
    found = machine.check(gpus=[BLACKWELL], FLASHINFER_NO_DOWNLOAD=value)
    assert ("refuses downloads" in found.found) is bool(value)


def test_the_images_kernels_or_a_directory_are_enough(machine: Machine) -> None:
    found = machine.check(cubin="0.6.17", gpus=[BLACKWELL])
    assert (found.status, "in the image" in found.found) == (Status.OK, True)
    assert machine.check(cubin="0.6.16", gpus=[BLACKWELL]).status is Status.WARN
    found = machine.check(gpus=[BLACKWELL], FLASHINFER_CUBIN_DIR="/cubins")
    assert (found.status, "/cubins" in found.found) == (Status.OK, True)


def test_without_a_driver_the_served_gpus_count(machine: Machine) -> None:
    assert machine.check(ROLL_RUNTIME_GPUS="8.0 9.0 10.0").status is Status.WARN
    assert machine.check(ROLL_RUNTIME_GPUS="8.0 9.0").status is Status.OK


def test_without_flashinfer_there_is_nothing_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_kernels, "_version", lambda name: "")
    assert [*check_downloads()] == []
