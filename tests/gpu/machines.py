"""This machine's GPUs, as the image sees them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from images.attest.evidence import Machine
from images.export.kit import gpu_choice
from tests.gpu import recorder as record
from tests.gpu import turns
from tests.image.box import Box

NO_MULTICAST = {
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}
"""For several GPUs: multicast over NVLink takes rights on the host that a tenant may not have, and
a program that tries it without them can put the host's GPUs out of service."""

_CONTROL_DEVICE = Path("/dev/nvidiactl")


def need_gpu(config: pytest.Config) -> None:
    """Skip where there is no GPU; with --gpu, end the session."""
    if not _CONTROL_DEVICE.exists():
        why = f"no NVIDIA GPU here: {_CONTROL_DEVICE} is missing"
        # One word for all of them: 25 tests would fail for this one reason.
        pytest.exit(why, returncode=1) if config.getoption("--gpu") else pytest.skip(why)


def ours() -> dict[str, str]:
    """What every process must have here: which GPUs are to be used, as a batch system or a person
    with several says it; and no multicast between them, whatever a test forgets to set."""
    name = gpu_choice.VISIBLE
    env = {name: os.environ[name]} if name in os.environ else {}
    return {**env, **NO_MULTICAST} if gpu_choice.present() > 1 else env


def see(box: Box) -> Machine:
    """What the image sees of this machine; a failure where it sees no GPU."""
    driver = box.ask("import json; from roll_runtime import gpu; print(json.dumps(gpu.ask()))")
    if "error" in driver or not driver["devices"]:
        pytest.fail(f"the image sees no GPU: {driver.get('error', 'none visible')}")
    return record.machine_of(driver, os.uname().release)


def how(config: pytest.Config, box: Box) -> str:
    """What the image runs in, as evidence names it."""
    beside = ", beside another image's tests" if turns.shared() else ""
    unpacked = ", unpacked before" if config.getoption("--rootfs") else ""
    return f"{box.kind}{unpacked}{beside}"
