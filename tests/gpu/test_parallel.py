"""Two GPUs with tensor parallelism."""

from __future__ import annotations

from typing import Any

import pytest

from images.evidence import Machine
from tests.gpu import engines
from tests.gpu.recorder import Recorder
from tests.image.box import Box
from tests.image.subject import Subject


@pytest.fixture(scope="module")
def two_gpus(gpu: Box, subject: Subject, recorder: Recorder, machine: Machine) -> dict[str, Any]:
    engines.need_engine(subject)
    if len(machine.gpus) < 2:
        pytest.skip("tensor parallelism needs two GPUs, and one is here")
    env = {**engines.ROLL, **engines.NO_MULTICAST}
    return engines.start(gpu, recorder, "two GPUs", "--tp-size 2", env=env)


def test_two_gpus_generate_together(two_gpus: dict[str, Any]) -> None:
    assert two_gpus["faults"] == []
    assert len(engines.told(two_gpus, "output_ids")) == 8


def test_each_gpu_has_a_scheduler_without_multicast(two_gpus: dict[str, Any]) -> None:
    environments = engines.scheduler_environments(two_gpus)
    print(environments)
    assert len(environments) == 2
    assert {env["NCCL_NVLS_ENABLE"] for env in environments} == {"0"}
