"""Stand-ins for rehearsals without a GPU: what ROLL's pipelines ask of a platform, and its CPU
platform lacks. Each is named with what it replaces; none is in place where there is a GPU.

The engine and the trainer compute for real, on the CPU; memory is not measured, buckets go through
shared memory instead of CUDA IPC, and gloo is the communication backend.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

_ZERO = (
    "empty_cache",
    "init",
    "ipc_collect",
    "reset_peak_memory_stats",
    "reset_max_memory_allocated",
    "reset_max_memory_cached",
    "memory_allocated",
    "memory_reserved",
    "max_memory_allocated",
    "max_memory_reserved",
    "device_memory_used",
)


def _complete_platform(module: Any) -> None:
    """ROLL's CPU platform forwards to torch.cpu, which has no memory statistics, caches or state of
    a random generator, and one device; and it names no variable that says which are visible."""
    import torch

    for name in _ZERO:
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, lambda *args, **kwargs: 0)
    torch.cpu.get_rng_state = torch.get_rng_state
    torch.cpu.set_rng_state = torch.set_rng_state
    torch.cpu.random = SimpleNamespace(
        get_rng_state_all=lambda: [torch.get_rng_state()],
        set_rng_state_all=lambda states: torch.set_rng_state(states[0]),
    )
    # ROLL takes a worker's devices for its node's: as many as it is given.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    torch.cpu.device_count = lambda: len(visible)
    module.CpuPlatform.device_control_env_var = "CUDA_VISIBLE_DEVICES"
    module.CpuPlatform.ray_experimental_noset = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"


def _complete_resources(module: Any) -> None:
    """ROLL asks Ray for `resources={"CPU": 1}` to learn which GPUs there are; Ray refuses that."""
    original = module.get_visible_gpus

    class Visible:
        def options(self, **options: Any) -> Visible:
            self._task = original.options(
                num_cpus=0, **{k: v for k, v in options.items() if k != "resources"}
            )
            return self

        def remote(self, variable: str) -> Any:
            import ray

            self._task.remote(variable)
            return ray.put(["0"])

    module.get_visible_gpus = Visible()


def _share_by_files(module: Any) -> None:
    """SGLang replaces the device's index in a shared tensor by the GPU's UUID; a CPU's has none.
    Between processes without a common parent, shared memory goes by name."""
    import torch

    torch.multiprocessing.set_sharing_strategy("file_system")
    module.monkey_patch_torch_reductions = lambda: None


def _without_nccl(module: Any) -> None:
    """SGLang opens NCCL between an engine's ranks wherever the library is installed; where it
    cannot be opened, torch's own groups are used, which are gloo's here."""

    def missing(path: str | None = None) -> None:
        raise OSError("a rehearsal on the CPU has no NCCL")

    module.NCCLLibrary = missing


AFTER_IMPORT: dict[str, Callable[[Any], None]] = {
    "roll.platforms.cpu": _complete_platform,
    "roll.distributed.scheduler.resource_manager": _complete_resources,
    "sglang.srt.distributed.device_communicators.pynccl": _without_nccl,
    "sglang.srt.patch_torch": _share_by_files,
    "sglang.srt.utils.patch_torch": _share_by_files,
}
"""What completes a module, by the module's name."""
