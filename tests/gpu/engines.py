"""Engines started in the image by `python -m roll_runtime smoke`, once a variant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from images.attest.evidence import Machine
from tests.gpu import turns
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject

ROLL = {
    "CUDA_DEVICE_MAX_CONNECTIONS": "4",
    "NCCL_CUMEM_ENABLE": "0",
    "NCCL_NVLS_ENABLE": "0",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "WORKER_NAME": "actor_infer-0",
}
"""What ROLL's workers preset (roll/platforms/cuda.py), and the image's own default."""

ALONE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
"""Without a network, as smoke's engines."""

_OF_MEMORY = ("a release gave back", "a resume took")

_TIMEOUT = 840  # seconds
"""Below pytest's own limit. DeepGEMM compiles for minutes in some starts (docs/roll-runtime.md)."""


def start(
    box: Box,
    recorder: Recorder,
    name: str,
    *options: str,
    env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Start an engine; gives smoke's result, which is kept as evidence under that name."""
    command = " ".join(["python -m roll_runtime smoke --json", f"--timeout {_TIMEOUT}", *options])
    done = box.attempt(command, env=env)
    assert "{" in done.stdout, f"{command}: exit code {done.rc}\n{done.stdout}\n{done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    recorder.add_run(name, result)
    print(f"{name}: {json.dumps(result)}")
    if result["faults"]:
        print(done.stderr)  # the end of the engine's log
    return result


def reported(result: Mapping[str, Any], name: str) -> Any:
    """Return a value of smoke's result; fail with its faults if the engine did not get so far."""
    assert name in result, f"no {name}: {result['faults']}"
    return result[name]


def faults(result: Mapping[str, Any]) -> list[str]:
    """Return smoke's faults, without those of the GPU's memory where other suites change it.

    `test_memory` measures it alone.
    """
    found: list[str] = result["faults"]
    return [fault for fault in found if not (turns.shared() and fault.startswith(_OF_MEMORY))]


def need_engine(subject: Subject) -> None:
    """Skip, aloud, where the target has no engine, or not the memory saver that ROLL turns on."""
    subject.need_engine()
    subject.need("torch-memory-saver")


def need_fp8(box: Box, subject: Subject, machine: Machine) -> None:
    """Skip, aloud, where block FP8 on load cannot be: by the GPU, or by SGLang's version."""
    need_engine(subject)
    if float(machine.gpus[0].capability) < 8.9:
        pytest.skip("FP8 needs a GPU of compute capability 8.9 or later")
    if not box.ask(_FP8, subject.target.sglang):
        pytest.skip("roll_runtime has no block FP8 on load for this SGLang")


_FP8 = """
import sys
from roll_runtime import versions
print("true" if versions.find_release(sys.argv[1]).fp8 else "false")
"""


def scheduler_environments(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The policy's variables as each scheduler process of an engine really has them."""
    found = [
        child["env"]
        for child in reported(result, "children")
        if child["process"].startswith("sglang::schedul")
    ]
    assert found, f"no scheduler among {[child['process'] for child in result['children']]}"
    return found
