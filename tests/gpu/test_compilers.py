"""Kernels that are compiled in the image, by Triton and by its nvcc, and run."""

from __future__ import annotations

import uuid

from tests.image.box import Box
from tests.image.kernel import KERNEL, MAIN
from tests.image.subject import Subject

TRITON = """
import json, torch, triton, triton.language as tl

@triton.jit
def scaled_sum(x, y, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    sums = tl.load(x + at, mask=inside) + 3 * tl.load(y + at, mask=inside)
    tl.store(out + at, sums, mask=inside)

x, y = torch.rand(1000, device="cuda"), torch.rand(1000, device="cuda")
out = torch.empty_like(x)
scaled_sum[(triton.cdiv(1000, 256),)](x, y, out, 1000, BLOCK=256)
wanted = x.cpu().double() + 3 * y.cpu().double()
print(json.dumps((out.cpu().double() - wanted).abs().max().item()))
"""


def test_triton_kernel(gpu: Box, subject: Subject) -> None:
    subject.need("torch", "triton")
    cache = f"/tmp/triton-{uuid.uuid4().hex}"
    error = gpu.ask(TRITON, env={"TRITON_CACHE_DIR": cache})
    compiled = gpu.run(f"find {cache} -name '*.cubin'").split()
    print(f"largest error {error}, compiled {compiled}")
    assert error < 1e-6
    assert len(compiled) == 1


def test_nvcc_kernel(gpu: Box, subject: Subject) -> None:
    subject.need_cuda_runtime()
    place = f"/tmp/kernel-{uuid.uuid4().hex}"
    gpu.write(f"{place}/kernel.cu", KERNEL + MAIN)
    gpu.run(f"cd {place} && nvcc -std=c++17 -arch=native -o program kernel.cu")
    print(gpu.run(f"cuobjdump --list-elf {place}/program"))
    done = gpu.attempt(f"{place}/program run")
    assert done.rc == 64, f"the sum of 128 halves is the exit code: {done.rc} {done.stderr}"
