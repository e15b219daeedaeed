"""ROLL's own cluster of one inference worker, and what the steps ask of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import kit_processes
from kit_reference import Comparison, Reference
from kit_settings import Where, document, read

from roll_runtime import smoke_model

WAIT = 180.0  # seconds for one answer of a worker


def get(references: Any, limit: float = WAIT) -> Any:
    """Ray's answer, within a limit."""
    import ray

    return ray.get(references, timeout=limit)


class Infer:
    """The cluster `actor_infer`, made as ROLL's RLVR pipeline makes it.

    Args:
        where: the session.
        engine_changes: what the engine's configuration has otherwise.
    """

    def __init__(self, where: Where, **engine_changes: Any) -> None:
        self._where = where
        self.config: Any = read(document(where, **engine_changes))
        self.resources: Any = None
        self.cluster: Any = None

    def make(self) -> str:
        """Allocate the device and make the worker's actor."""
        from roll.distributed.executor.cluster import Cluster
        from roll.distributed.scheduler.resource_manager import ResourceManager
        from roll.distributed.scheduler.transfer_backend import init_transfer_backend

        role = self.config.actor_infer
        self.resources = ResourceManager(num_nodes=1, num_gpus_per_node=1)
        init_transfer_backend(None)
        self.cluster = Cluster(
            name=role.name,
            worker_cls=role.worker_cls,
            resource_manager=self.resources,
            worker_config=role,
        )
        return f"{role.worker_cls}, colocated {self.config.is_actor_infer_colocated}"

    def start(self) -> None:
        """Start the engine in the actor; ROLL releases its memory at the end of it."""
        get(self.cluster.initialize(pipeline_config=self.config, blocking=False), 400)

    @property
    def worker(self) -> Any:
        """The worker's actor."""
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

    def ask(self, name: str, **changes: Any) -> Mapping[str, Any]:
        """`generate_request`."""
        answer: Mapping[str, Any] = get(
            self.worker.generate_request.remote(self.request(name, **changes))
        )
        return answer

    def compare(self, reference: Reference) -> Comparison:
        """Let the engine answer greedily, and compare that with the CPU."""
        answer = self.ask("compare")
        tokens: Sequence[int] = answer["output_token_ids"][0]
        return reference.compare(smoke_model.PROMPT, tokens, answer["output_logprobs"][0])

    def need_like(self, reference: Reference) -> str:
        """An AssertionError unless the engine answers as the reference does."""
        found = self.compare(reference)
        assert found.close, f"the engine has other weights: {found}"
        return str(found)

    def on_worker(self, action: Callable[[Any], Any]) -> Any:
        """Run a function on the worker object in its actor."""
        return get(self.worker.__ray_call__.remote(action), 60)

    def close(self) -> str:
        """End the actor, as the end of a job does."""
        import ray

        running = len(kit_processes.engine())
        assert running, "no process of the engine is there to end"
        for worker in self.cluster.workers:
            ray.kill(worker)
        return f"{running} processes of the engine ran"
