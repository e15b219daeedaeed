"""Two GPUs: tensor parallelism, and what NCCL carries from one to the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from images import image_paths
from images.attest.evidence import Machine
from tests.gpu import engines
from tests.gpu.machines import NO_MULTICAST
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject

# One process a GPU, as a trainer and an engine are, without Ray and ROLL. Each type that is summed
# has a kernel of its own in NCCL, of which the image keeps those of its architectures.
_COLLECTIVES = """
import datetime, json, os, sys
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

OFF = json.loads(os.environ["MULTICAST_OFF"])
COUNT = 3_000_001  # odd: the kernels' ends are run too
TYPES = ("float32", "bfloat16", "float16", "int64", "uint8")

def pattern(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 64, (COUNT,), generator=generator).to(getattr(torch, dtype))

def weights(seed):
    from roll_runtime import smoke_model
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).bfloat16()
            for name, shape in smoke_model.shapes().items()}

def libraries():
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if "libnccl" in line}
    return sorted(paths)

def run(rank, backend, device, port, results):
    assert {name: os.environ.get(name) for name in OFF} == OFF, "multicast is not off"
    place = torch.device(f"cuda:{rank}" if device == "cuda" else "cpu")
    if device == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank,
                            world_size=2, timeout=datetime.timedelta(seconds=120))
    found = {}
    for dtype in TYPES:
        both = [pattern(dtype, 1), pattern(dtype, 2)]
        summed = both[rank].clone().to(place)
        dist.all_reduce(summed)
        sent = both[rank].clone().to(place)
        dist.broadcast(sent, src=0)
        gathered = [torch.empty_like(sent) for _ in both]
        dist.all_gather(gathered, both[rank].to(place))
        found[dtype] = (torch.equal(summed.cpu(), both[0] + both[1])
                        and torch.equal(sent.cpu(), both[0])
                        and all(torch.equal(a.cpu(), b) for a, b in zip(gathered, both)))
    wanted = weights(1)
    held = {name: value.to(place) for name, value in weights(1 + rank).items()}
    for value in held.values():
        dist.broadcast(value, src=0)
    found["weights"] = all(torch.equal(held[name].cpu(), wanted[name]) for name in wanted)
    results[rank] = {"equal": found, "libraries": libraries()}
    dist.destroy_process_group()

if __name__ == "__main__":
    import socket
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(run, args=(sys.argv[1], sys.argv[2], port, results), nprocs=2)
        print(json.dumps([results[rank] for rank in range(2)]))
"""


@pytest.fixture(scope="module")
def pair(machine: Machine) -> None:
    """Skips where there is one GPU."""
    if len(machine.gpus) < 2:
        pytest.skip("tensor parallelism needs two GPUs, and one is here")


@pytest.fixture(scope="module")
def two_gpus(pair: None, gpu: Box, subject: Subject, recorder: Recorder) -> dict[str, Any]:
    engines.need_engine(subject)
    env = {**engines.ROLL, **NO_MULTICAST}
    return engines.start(gpu, recorder, "two GPUs", "--tp-size 2", env=env)


def test_two_gpus_generate_together(two_gpus: dict[str, Any]) -> None:
    assert two_gpus["faults"] == []
    assert len(engines.reported(two_gpus, "output_ids")) == 8


def test_two_gpus_give_the_tokens_of_one(
    two_gpus: dict[str, Any], off_main: dict[str, Any]
) -> None:
    assert engines.reported(two_gpus, "output_ids") == engines.reported(off_main, "output_ids")


def test_each_gpu_has_a_scheduler_without_multicast(two_gpus: dict[str, Any]) -> None:
    environments = engines.scheduler_environments(two_gpus)
    print(environments)
    assert len(environments) == 2
    assert {env["NCCL_NVLS_ENABLE"] for env in environments} == {"0"}


def test_nccl_carries_sums_and_weights_between_two_gpus(
    pair: None, gpu: Box, subject: Subject
) -> None:
    subject.need("torch")
    env = {**NO_MULTICAST, "MULTICAST_OFF": json.dumps(NO_MULTICAST), "NCCL_CUMEM_ENABLE": "0"}
    ranks = gpu.ask(_COLLECTIVES, "nccl", "cuda", env=env)
    print(ranks)
    for rank in ranks:
        assert {name for name, equal in rank["equal"].items() if not equal} == set()
        # The image's own, not one of the host's.
        (library,) = rank["libraries"]
        assert library.startswith(f"/{image_paths.SITE_PACKAGES}/")
