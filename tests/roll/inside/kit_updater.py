"""A trainer's rank on a GPU of its own, which sends weights by ROLL's own FSDP2WeightUpdater.

ROLL's trainer makes one for each cluster of engines. Which way the weights go, it decides from
the devices of both: in buckets to the engine on the same GPUs, by NCCL to the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import kit_multicast
from kit_trainer import Trainer


class _Model:
    """What ROLL's updater asks of a model: names and parameters, whole as of an unsharded one."""

    config = None

    def __init__(self) -> None:
        self.weights: dict[str, Any] = {}

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        yield from self.weights.items()


class Rank(Trainer):
    """Runs as a Ray actor.

    Args:
        model: the checkpoint's folder.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._model = _Model()
        self._updaters: dict[str, Any] = {}

    def begin(self, address: str, port: int, rank: int, size: int) -> str:
        """Join the trainer's ranks, as ROLL's fsdp2 strategy does, and add something up.

        Args:
            address: of rank 0.
            port: at that address.
            rank: of this one.
            size: how many there are.
        """
        import torch
        from roll.platforms import current_platform
        from torch import distributed

        kit_multicast.need_off(os.environ, "a trainer's process")
        backend: str = current_platform.communication_backend
        method = f"tcp://{address}:{port}"
        distributed.init_process_group(backend, init_method=method, rank=rank, world_size=size)
        values = torch.arange(1 << 20, dtype=torch.float32, device=self._device) * (rank + 1)
        distributed.all_reduce(values)
        wanted = torch.arange(1 << 20, dtype=torch.float32) * (size * (size + 1) // 2)
        assert torch.equal(values.cpu(), wanted), "the sum over the ranks is wrong"
        return backend

    def connect(self, config: Any, cluster: Any, name: str) -> str:
        """Make ROLL's updater; gives the ways that it found.

        Args:
            config: the pipeline's; its `actor_train` says which devices the trainer has.
            cluster: the engines.
            name: of the updater.
        """
        from roll.third_party.fsdp2.model_update import FSDP2WeightUpdater

        updater = FSDP2WeightUpdater(
            pipeline_config=config,
            infer_cluster=cluster,
            worker_config=config.actor_train,
            model_update_name=name,
            model=self._model,
            is_lora=False,
        )
        self._updaters[name] = updater
        others = len(updater._broadcast_workers or [])
        bucket = updater._co_infer_worker is not None
        return f"bucket {bucket}, broadcast to {others}"

    def update(self, name: str, which: str) -> None:
        """Send weights to the cluster of that updater."""
        self._model.weights = self._weights[which]
        self._updaters[name].model_update()
