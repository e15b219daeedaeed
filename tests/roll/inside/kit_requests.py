"""Requests to a running engine as ROLL's schedulers send them, and ROLL's own faults about them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kit_cluster import Infer, get
from kit_reference import Reference
from kit_steps import Steps

from roll_runtime import smoke_model

_LONG = {True: 8000, False: 30000}  # tokens that nothing has generated when it is aborted


def batch(infer: Infer, **changes: Any) -> Any:
    """One greedy prompt, as ROLL's schedulers hold it.

    Args:
        infer: the cluster that will be asked.
        changes: what the generation's configuration has otherwise.
    """
    import torch
    from roll.distributed.scheduler.protocol import DataProto
    from tensordict import TensorDict

    prompt = smoke_model.PROMPT
    ids = torch.zeros((1, 8), dtype=torch.long)
    mask = torch.zeros((1, 8), dtype=torch.long)
    ids[0, -len(prompt) :] = torch.tensor(prompt)
    mask[0, -len(prompt) :] = 1
    position = torch.clamp(mask.cumsum(-1) - 1, min=0)
    held = {"input_ids": ids, "attention_mask": mask, "position_ids": position}
    data = DataProto(batch=TensorDict(held, batch_size=[1]))
    given = infer.config.actor_infer.generating_args.to_dict()
    given |= {"temperature": 0.0, "max_new_tokens": 8, "num_return_sequences": 1, **changes}
    data.meta_info = {"generation_config": given, "global_step": 0}
    return data


@contextmanager
def routed(infer: Infer) -> Iterator[tuple[Any, Any]]:
    """ROLL's RouterClient and RouterManager, the way its DynamicSamplingScheduler has them."""
    import ray
    from roll.distributed.scheduler.router import RouterManager

    manager = ray.remote(RouterManager).options(max_concurrency=64, num_cpus=0)
    manager = manager.remote(
        actor_cluster=infer.cluster,
        router_args=infer.config.router_args,
        num_gpus_per_node=infer.devices.node,
    )
    get(manager.initialize.remote())
    yield RouterManager.create_client_sync(manager), manager
    ray.kill(manager)


class Requests:
    """Steps on a loaded engine.

    Args:
        infer: the cluster.
        reference: what the engine's weights are.
    """

    def __init__(self, infer: Infer, reference: Reference) -> None:
        self._infer, self._reference = infer, reference

    def run(self, steps: Steps) -> None:
        """Try them all; the engine must answer right after them."""
        steps.run("the_router_answers", self._route, limit=180)
        steps.run("several_answers_to_one_prompt", self._several)
        steps.run("a_request_is_aborted", self._abort)
        steps.run(
            "the_worker_generates_a_batch",
            self._generate_batch,
            fault=(
                "'NoneType' object has no attribute 'eos_token_id'",
                "ROLL's own fault: InferWorker.generate asks its strategy's tokenizer, and "
                "SgLangStrategy has none; its pipelines ask the router instead",
            ),
        )
        steps.run("memory_of_chosen_ranks_is_released", self._offload_partial)
        steps.run(
            "memory_of_chosen_ranks_is_loaded",
            self._load_partial,
            fault=(
                "'bool' object is not callable",
                "ROLL's own fault: InferWorker.load_states_partial calls is_model_in_gpu, "
                "which is a bool",
            ),
        )
        steps.skip(
            "a_batch_with_images",
            "ROLL's own fault: SgLangStrategy.generate reads names that are not assigned for "
            "images; not tried",
        )
        steps.skip("several_nodes", "the slave actors of ROLL's strategy need two nodes")

    def _route(self) -> str:
        with routed(self._infer) as (client, _):
            answer = client.generate_request_sync(req=batch(self._infer), request_id=None, uid=0)
        tokens = answer.meta_info["output_token_ids"][0]
        wanted = self._infer.ask("routed")["output_token_ids"][0]
        assert tokens == wanted, f"the router gives {tokens}, the worker {wanted}"
        return f"tokens {tokens}"

    def _several(self) -> str:
        answer = self._infer.ask("several", temperature=0.9, num_return_sequences=3)
        found = answer["output_token_ids"]
        assert len(found) == 3, f"{len(found)} answers of 3"
        return f"{len({tuple(tokens) for tokens in found})} different answers of 3"

    def _abort(self) -> str:
        from roll.platforms import current_platform

        longest = _LONG[current_platform.device_type == "cpu"]
        payload = self._infer.request("abort", max_new_tokens=longest, temperature=1.0)
        payload["sampling_params"] |= {"ignore_eos": True, "stop_token_ids": None}
        coming = self._infer.worker.generate_request.remote(payload)
        time.sleep(3)
        get(self._infer.worker.abort_requests.remote([payload["rid"]]), 60)
        answer = get(coming, 90)
        count = len(answer["output_token_ids"][0])
        assert answer["finish_reasons"] == ["abort"], f"{answer['finish_reasons']} after {count}"
        return f"after {count} tokens; then {self._infer.need_like(self._reference)}"

    def _generate_batch(self) -> str:
        return str(self._infer.cluster.generate(batch(self._infer)).batch["responses"].tolist())

    def _offload_partial(self) -> None:
        ranks = [0]
        get(self._infer.cluster.offload_states_partial(target_dp_ranks=ranks, blocking=False))

    def _load_partial(self) -> None:
        ranks = [0]
        try:
            get(self._infer.cluster.load_states_partial(target_dp_ranks=ranks, blocking=False))
        finally:
            self._infer.load()
