"""What needs a GPU: torch, Triton, nvcc's kernels and an engine, in the image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import layout
from tests.image.box import Box
from tests.image.subject import Subject
from tests.image.test_compiler import KERNEL, MAIN

TRITON = """
import torch, triton, triton.language as tl

@triton.jit
def add(x, y, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    tl.store(out + at, tl.load(x + at, mask=inside) + tl.load(y + at, mask=inside), mask=inside)

x, y = torch.rand(1000, device="cuda"), torch.rand(1000, device="cuda")
out = torch.empty_like(x)
add[(triton.cdiv(1000, 256),)](x, y, out, 1000, BLOCK=256)
print(torch.equal(out, x + y))
"""


@pytest.fixture(scope="module")
def gpu(new_box: Box) -> Iterator[Box]:
    """The image with all GPUs of this machine."""
    if not Path("/dev/nvidiactl").exists():
        pytest.skip("no NVIDIA GPU here: /dev/nvidiactl is missing")
    with new_box.started(gpus=True) as started:
        yield started


def test_torch_sees_the_gpu(gpu: Box, subject: Subject) -> None:
    subject.need("torch")
    code = "import torch; x = torch.ones(64, 64, device='cuda'); print((x @ x).sum().item())"
    assert gpu.python(code).splitlines()[-1] == str(64.0**3)


def test_triton_kernel(gpu: Box, subject: Subject) -> None:
    subject.need("torch", "triton")
    assert gpu.python(TRITON).splitlines()[-1] == "True"


def test_compiled_kernel(gpu: Box, subject: Subject) -> None:
    subject.need_cuda_runtime()
    gpu.write("/tmp/kernel/kernel.cu", KERNEL + MAIN)
    gpu.run("cd /tmp/kernel && nvcc -std=c++17 -arch=native -o program kernel.cu")
    done = gpu.attempt("/tmp/kernel/program run")
    assert done.rc == 64, f"the sum of 128 halves is the exit code: {done.stderr}"


def test_engine_off_the_main_thread(gpu: Box, subject: Subject) -> None:
    """As ROLL starts it: within a coroutine on another thread, with memory saver."""
    subject.need_engine()
    answer = gpu.attempt("python -m roll_runtime smoke --json")
    result = json.loads(answer.stdout[answer.stdout.index("{") :])
    assert result["faults"] == []
    assert answer.rc == 0
    assert result["sglang"] == subject.target.sglang


def test_doctor_is_content(gpu: Box) -> None:
    answer = json.loads(gpu.attempt("python -m roll_runtime doctor --json").stdout)
    assert [item for item in answer["checks"] if item["status"] == "fail"] == []


def test_driver_is_the_hosts(gpu: Box) -> None:
    assert f"/{layout.CUDA_HOME}" not in gpu.run("/sbin/ldconfig -p | grep libcuda.so.1 || true")
