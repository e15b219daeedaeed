"""ROLL's own clusters of inference workers, and what the steps ask of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kit_processes
from kit_reference import Comparison, Reference
from kit_settings import ONE, Devices, Where, document, read

from roll_runtime import smoke_model

WAIT = 180.0  # seconds for one answer of a worker


def get(references: Any, limit: float = WAIT) -> Any:
    """Ray's answer, within a limit."""
    import ray

    return ray.get(references, timeout=limit)


def allocate(devices: int) -> Any:
    """ROLL's manager of the node's devices."""
    from roll.distributed.scheduler.resource_manager import ResourceManager
    from roll.distributed.scheduler.transfer_backend import init_transfer_backend

    resources = ResourceManager(num_nodes=1, num_gpus_per_node=devices)
    init_transfer_backend(None)
    return resources


class Infer:
    """The cluster `actor_infer`, made as ROLL's RLVR pipeline makes it.

    Args:
        where: the session.
        devices: which ones it has, and which the trainer.
        engine_changes: what the engine's configuration has otherwise.
    """

    def __init__(self, where: Where, devices: Devices = ONE, **engine_changes: Any) -> None:
        self.devices = devices
        self.config: Any = read(document(where, devices, **engine_changes))
        self.resources: Any = None
        self.cluster: Any = None
        self._starting: list[Any] = []

    def make(self, resources: Any = None, suffix: str = "") -> str:
        """Make the workers' actors.

        Args:
            resources: the node's devices; allocated here if there are none.
            suffix: what tells this cluster from another one of the session.
        """
        from roll.distributed.executor.cluster import Cluster

        role = self.config.actor_infer
        self.resources = resources or allocate(self.devices.node)
        self.cluster = Cluster(
            name=f"{role.name}{suffix}",
            worker_cls=role.worker_cls,
            resource_manager=self.resources,
            worker_config=role,
        )
        return f"{role.worker_cls}, colocated {self.config.is_actor_infer_colocated}"

    def begin(self) -> None:
        """Let the engines start, and do not wait for them."""
        self._starting = self.cluster.initialize(pipeline_config=self.config, blocking=False)

    def start(self) -> None:
        """Start the engines in the actors; ROLL releases their memory at the end of it."""
        if not self._starting:
            self.begin()
        get(self._starting, 400)

    @property
    def worker(self) -> Any:
        """The first worker's actor."""
        return self.cluster.workers[0]

    def load(self) -> None:
        """`load_states`."""
        get(self.cluster.load_states(blocking=False))

    def offload(self) -> None:
        """`offload_states`."""
        get(self.cluster.offload_states(blocking=False))

    def request(self, name: str, **changes: Any) -> dict[str, Any]:
        """What ROLL's router sends to a worker."""
        from roll.distributed.strategy import sglang_strategy

        given = self.config.actor_infer.generating_args.to_dict()
        given |= {"eos_token_id": [2, 0], "pad_token_id": 0}
        given |= {"max_new_tokens": 8, "temperature": 0.0, "num_return_sequences": 1, **changes}
        return {
            "input_ids": list(smoke_model.PROMPT),
            "rid": f"{name}-{time.time_ns()}",
            "sampling_params": sglang_strategy.create_sampling_params_for_sglang(given),
            "return_logprob": True,
        }

    def ask(self, name: str, rank: int = 0, **changes: Any) -> Mapping[str, Any]:
        """`generate_request` to one of the workers."""
        worker = self.cluster.workers[rank]
        answer: Mapping[str, Any] = get(
            worker.generate_request.remote(self.request(name, **changes))
        )
        return answer

    def compare(self, reference: Reference, rank: int = 0) -> Comparison:
        """Let an engine answer greedily, and compare that with the CPU."""
        answer = self.ask("compare", rank)
        tokens: Sequence[int] = answer["output_token_ids"][0]
        return reference.compare(smoke_model.PROMPT, tokens, answer["output_logprobs"][0])

    def need_like(self, reference: Reference) -> str:
        """An AssertionError unless each engine answers as the reference does."""
        found = [self.compare(reference, rank) for rank in range(len(self.cluster.workers))]
        for rank, comparison in enumerate(found):
            assert comparison.close, f"engine {rank} has other weights: {comparison}"
        return "; ".join(map(str, found))

    def on_workers(self, action: Callable[[Any], Any]) -> list[Any]:
        """Run a function on each worker object in its actor."""
        calls = [worker.__ray_call__.remote(action) for worker in self.cluster.workers]
        found: list[Any] = get(calls, 60)
        return found

    def close(self) -> str:
        """End the actor, as the end of a job does."""
        import ray

        running = len(kit_processes.engine())
        assert running, "no process of the engine is there to end"
        for worker in self.cluster.workers:
            ray.kill(worker)
        return f"{running} processes of the engine ran"
