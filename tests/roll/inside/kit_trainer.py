"""A process beside the engine that holds weights on the same device, as a colocated trainer does,
and sends them by ROLL's own functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXPANDABLE = "expandable_segments:True"


class Trainer:
    """Runs as a Ray actor.

    Args:
        model: the checkpoint's folder.
    """

    def __init__(self, model: str) -> None:
        import kit_reference
        from roll.platforms import current_platform

        self._device = current_platform.device_type
        own = kit_reference.read_weights(Path(model))
        found = {"own": own, "other": kit_reference.other_weights(own)}
        self._weights = {
            name: {key: value.to(self._device) for key, value in held.items()}
            for name, held in found.items()
        }

    def memory_gib(self) -> float:
        """GPU memory in use on the device, of all processes."""
        import torch

        free, total = torch.cuda.mem_get_info()
        return float((total - free) / 2**30)

    def bucket(self, which: str) -> tuple[str, str]:
        """The weights in one bucket; and the allocator's settings in this process."""
        import os

        from roll.utils.send_recv_utils import serialize_named_weights

        named = list(self._weights[which].items())
        text = serialize_named_weights(named, infer_strategy="sglang")
        return text, os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")

    def segments(self) -> bool:
        """Whether torch's allocator has an expandable segment."""
        import torch

        return any(item.get("is_expandable") for item in torch.cuda.memory_snapshot())

    def join(self, address: str, port: int, group: str, size: int = 2) -> None:
        """Join a group with the engine's ranks, as rank 0."""
        from roll.utils.collective import collective

        collective.init_collective_group(
            size, 0, backend="gloo", group_name=group, master_addr=address, master_port=port
        )

    def describe(self, which: str) -> tuple[list[str], list[Any], list[Any]]:
        """Names, types and shapes of the weights."""
        held = self._weights[which]
        return list(held), [v.dtype for v in held.values()], [v.shape for v in held.values()]

    def send(self, which: str, group: str) -> None:
        """Broadcast the weights, one after another."""
        from roll.utils.collective import collective

        for value in self._weights[which].values():
            collective.broadcast(tensor=value, src_rank=0, group_name=group, async_op=False)


@dataclass(frozen=True)
class Place:
    """Where a trainer's actor is, and what it has of its own.

    Attributes:
        name: of the actor.
        allocator: its `PYTORCH_CUDA_ALLOC_CONF`.
        device: the device that it sees.
    """

    name: str
    allocator: str = ""
    device: int = 0


def make(resources: Any, model: Path, place: Place, *, cpu: bool, kind: type = Trainer) -> Any:
    """Make the actor in the placement group that holds the device, as ROLL's own workers are."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    env = {"WORKER_NAME": place.name, "PYTORCH_CUDA_ALLOC_CONF": place.allocator}
    options: dict[str, Any] = {
        "num_cpus": 0.01,
        "name": place.name,
        "scheduling_strategy": PlacementGroupSchedulingStrategy(
            placement_group=resources.placement_groups[0]
        ),
    }
    if not cpu:
        options["num_gpus"] = 0.01
        env["CUDA_VISIBLE_DEVICES"] = str(place.device)
        env["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"] = "1"
    options["runtime_env"] = {"env_vars": env}
    return ray.remote(kind).options(**options).remote(str(model))
