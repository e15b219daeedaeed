"""torch on the GPU computes what the CPU computes in float64."""

from __future__ import annotations

from images.attest.evidence import Machine
from tests.image.box import Box
from tests.image.subject import Subject

# The largest error beside the largest value, of a product of 512 x 512 matrices.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2}

MATRICES = """
import json, sys, torch
generator = torch.Generator().manual_seed(0)
a, b = (torch.randn(512, 512, dtype=torch.float64, generator=generator) for _ in range(2))
errors = {}
for name in sys.argv[1:]:
    dtype = getattr(torch, name)
    wanted = a.to(dtype).double() @ b.to(dtype).double()
    got = (a.to("cuda", dtype) @ b.to("cuda", dtype)).cpu().double()
    errors[name] = ((got - wanted).abs().max() / wanted.abs().max()).item()
print(json.dumps(errors))
"""
DEVICES = """
import json, torch
count = torch.cuda.device_count()
print(json.dumps([[torch.cuda.get_device_name(i), *torch.cuda.get_device_capability(i)]
                  for i in range(count)]))
"""


def test_torch_sees_the_gpus(gpu: Box, subject: Subject, machine: Machine) -> None:
    subject.need("torch")
    seen = gpu.ask(DEVICES)
    print(seen)
    assert [[name, f"{major}.{minor}"] for name, major, minor in seen] == [
        [item.name, item.capability] for item in machine.gpus
    ]


def test_torch_computes_what_the_cpu_computes(gpu: Box, subject: Subject) -> None:
    subject.need("torch")
    errors = gpu.ask(MATRICES, *TOLERANCES)
    print(errors)
    assert {name for name, error in errors.items() if not error < TOLERANCES[name]} == set()
