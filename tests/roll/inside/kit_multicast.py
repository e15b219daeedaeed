"""NVLink multicast is off in every process: it takes rights on a host that a tenant may not have,
and a program that tries it without them can put the host's GPUs out of service."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import kit_processes
import psutil


def need_off(env: Mapping[str, str], whose: str) -> None:
    """An AssertionError unless an environment turns multicast off."""
    off = _off()
    found = {name: env.get(name) for name in off}
    assert found == off, f"NVLink multicast is not off in {whose}: {found}"


def need_off_here() -> str:
    """An AssertionError unless this process has it off: before anything starts NCCL."""
    need_off(os.environ, "this process")
    return ", ".join(f"{name}={value}" for name, value in _off().items())


def need_off_in_schedulers() -> str:
    """An AssertionError unless all schedulers were started with it off.

    Read from outside: SGLang's processes have SPT_NOENV, without which setproctitle writes their
    titles over what others can read of their environment.
    """
    pids = sorted(kit_processes.schedulers())
    assert pids, "no scheduler runs"
    for pid in pids:
        need_off(psutil.Process(pid).environ(), f"scheduler {pid}")
    return f"off in {len(pids)} schedulers"


def _off() -> dict[str, str]:
    """What turns it off in NCCL, torch and NVSHMEM, as the tests outside say."""
    found: dict[str, str] = json.loads(os.environ["ROLL_TEST_MULTICAST_OFF"])
    assert found, "the tests name nothing that turns multicast off"
    return found
