"""``doctor``: what an engine's start and ROLL ask of the container."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import runtime_wheels
from roll_runtime.findings import Check, Status

from roll_runtime import contract, dispatch, doctor_gpu, doctor_host, doctor_roll, user


def named(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_nvidia_smi_is_needed_where_sglang_ends_without_it(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Held against each release's own source: it raises, or it asks torch."""
    source = contract.WheelSource(runtime_wheels.fetch(runtime_wheels.read_lock()[version]))
    text = source.read("sglang/srt/utils/common.py") or source.read("sglang/srt/utils.py") or ""
    body = re.search(r"def get_nvgpu_memory_capacity.*?\n(?=def )", text, re.DOTALL)
    assert body is not None
    raises = re.search(r"except FileNotFoundError:\s+raise", body[0]) is not None
    monkeypatch.setattr(dispatch, "sglang_version", lambda: version)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (check,) = doctor_gpu.check_program()
    assert check.status is (Status.FAIL if raises else Status.WARN)
    assert "utility" in check.remedy


def test_nvidia_smi_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (check,) = doctor_gpu.check_program()
    assert check == Check("nvidia-smi", Status.OK, "/usr/bin/nvidia-smi")


def test_user_without_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in user.NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    checks = named(doctor_host.check_user())
    assert checks["user"].status is Status.FAIL
    assert "--user roll" in checks["user"].remedy
    assert checks["HOME"].status is Status.FAIL
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "roll-home-54321"))
    checks = named(doctor_host.check_user())
    assert checks["user"].status is Status.OK
    assert checks["user"].found.startswith("somebody (from USER; uid 54321 has no line in passwd")
    assert checks["HOME"].status is Status.WARN
    assert "roll_runtime made this one" in checks["HOME"].found
    monkeypatch.setenv("HOME", str(tmp_path))
    assert named(doctor_host.check_user())["HOME"].status is Status.OK


@pytest.mark.parametrize(
    ("gib", "ray", "status"),
    [(0.06, False, Status.WARN), (2, False, Status.OK), (2, True, Status.WARN), (4, True, "ok")],
)
def test_shared_memory(
    monkeypatch: pytest.MonkeyPatch, gib: float, ray: bool, status: Status
) -> None:
    monkeypatch.setattr(doctor_host, "has", lambda module: ray)
    monkeypatch.setattr(doctor_host, "memory_bytes", lambda: 10 * 2**30)
    usage = SimpleNamespace(total=int(gib * 2**30))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    (check,) = doctor_host.check_host()
    assert check.status == status
    if check.status is Status.WARN:
        assert "--shm-size=" in check.remedy


def test_shared_memory_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_host, "_SHM", "/proc/nowhere")
    (check,) = doctor_host.check_host()
    assert check.status is Status.FAIL


def test_memory_is_the_machines_or_the_limit() -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < doctor_host.memory_bytes() <= machine


class Unreachable(socket.socket):
    """A socket on a machine without any route."""

    def connect(self, address: Any) -> None:
        raise OSError(101, "Network is unreachable")


@pytest.mark.parametrize(("ray", "status"), [(True, Status.FAIL), (False, Status.WARN)])
def test_machine_without_a_route(
    monkeypatch: pytest.MonkeyPatch, ray: bool, status: Status
) -> None:
    monkeypatch.setattr(doctor_roll, "has", lambda module: ray)
    monkeypatch.setattr(socket, "socket", Unreachable)
    (check,) = doctor_roll.check_network()
    assert check.status is status
    assert "Network is unreachable" in check.found
    assert "ip route add" in check.remedy


def test_place_of_rays_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor_roll, "has", lambda module: False)
    (check,) = doctor_roll.check_ray()
    assert (check.status, check.found[:13]) == (Status.OK, "not installed")
    monkeypatch.setattr(doctor_roll, "has", lambda module: True)
    for base, status, text in (
        ("/tmp", Status.OK, "/tmp/ray can be written"),
        (str(tmp_path / ("long" * 10)), Status.FAIL, ""),
        ("/dev/null", Status.FAIL, "/dev/null/ray cannot be written"),
    ):
        monkeypatch.setenv("RAY_TMPDIR", base)
        if base.startswith(str(tmp_path)):
            Path(base).mkdir()
            text = "longer than 107 bytes"
        (check,) = doctor_roll.check_ray()
        assert check.status is status
        assert text in check.found


def test_what_rolls_worker_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_roll, "has", lambda module: False)
    assert list(doctor_roll.check_roll()) == []
    there = {*doctor_roll.ROLL_NEEDS} - {"tensordict", "transfer_queue"}
    monkeypatch.setattr(doctor_roll, "has", there.__contains__)
    monkeypatch.setattr(doctor_roll, "_installed", lambda name: name != "opentelemetry-sdk")
    (check,) = doctor_roll.check_roll()
    assert check.status is Status.FAIL
    assert check.found.endswith("tensordict, TransferQueue, opentelemetry-sdk")
    assert "pip install tensordict TransferQueue opentelemetry-sdk" in check.remedy
    monkeypatch.setattr(doctor_roll, "has", lambda module: True)
    monkeypatch.setattr(doctor_roll, "_installed", lambda name: True)
    (check,) = doctor_roll.check_roll()
    assert check.status is Status.OK


def test_modules_are_looked_for_and_not_imported() -> None:
    assert doctor_roll.has("json")
    assert not doctor_roll.has("no_such_module_at_all")
    assert "import_module" not in inspect.getsource(doctor_roll)
