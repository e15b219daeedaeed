"""FlashInfer compiles its kernels when they are first used, with the image's nvcc."""

from __future__ import annotations

import uuid

from tests.image.box import Box
from tests.image.subject import Subject

# Both kernels have the same name and arguments from FlashInfer 0.2.5 to 0.6.
KERNELS = """
import json, os, pathlib, time
import torch, flashinfer
from flashinfer import activation, page

def compiled():
    base = pathlib.Path(os.environ["FLASHINFER_WORKSPACE_BASE"], ".cache", "flashinfer")
    return sorted(path.stem for path in base.rglob("*.so"))

before, begin = compiled(), time.monotonic()
x = torch.randn(64, 1024, device="cuda").to(torch.bfloat16)
got = activation.silu_and_mul(x)
torch.cuda.synchronize()
gate, up = x.cpu().double().chunk(2, dim=-1)
wanted = gate * torch.sigmoid(gate) * up
error = ((got.cpu().double() - wanted).abs().max() / wanted.abs().max()).item()
middle = time.monotonic()

# A cache of 4 pages of 8 tokens (2 heads, 64 wide); 5 tokens go to page 2, from its start.
key, value = (torch.randn(5, 2, 64, device="cuda").half() for _ in range(2))
cache = torch.zeros(4, 2, 8, 2, 64, device="cuda", dtype=torch.float16)
def ints(*numbers):
    return torch.tensor(numbers, device="cuda", dtype=torch.int32)
page.append_paged_kv_cache(
    key, value, ints(0, 0, 0, 0, 0), ints(0, 1, 2, 3, 4), cache, ints(2), ints(0, 1), ints(5)
)
torch.cuda.synchronize()
rest = cache.clone()
rest[2, :, :5] = 0
same = bool(torch.equal(cache[2, 0, :5], key) and torch.equal(cache[2, 1, :5], value))
print(json.dumps({
    "version": flashinfer.__version__, "error": error, "copied": same,
    "untouched": bool((rest == 0).all()), "before": before, "compiled": compiled(),
    "seconds": [round(middle - begin, 1), round(time.monotonic() - middle, 1)],
}))
"""


def test_kernels_are_compiled_and_right(gpu: Box, subject: Subject) -> None:
    subject.need("torch", "flashinfer-python")
    place = f"/tmp/flashinfer-{uuid.uuid4().hex}"
    gpu.run(f"mkdir {place}")
    found = gpu.ask(KERNELS, env={"FLASHINFER_WORKSPACE_BASE": place, "HOME": place})
    print(found)
    assert found["before"] == [], "nothing was compiled before"
    assert len(found["compiled"]) >= 2, "at least one library for each of the two modules"
    assert found["error"] < 1e-2
    assert found["copied"]
    assert found["untouched"]
