"""Two engines, each on a GPU of its own (`device_mapping: [0, 1]`)."""

from __future__ import annotations

import copy
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kit_cluster import get
from kit_engines import Engines
from kit_pair import Pair
from kit_reference import Comparison
from kit_requests import batch, routed
from kit_settings import Devices, Where, document, read
from kit_steps import Steps

from roll_runtime import smoke_model

_REQUESTS = 8
_LENGTH = 128  # tokens: all requests are under way before one is answered
_ANSWER = ("token_ids", "logprobs")
_FIRST = Devices(trainer=(0,), engines=(0, 1), node=2)
"""A trainer that shares the first engine's GPU, and not the second's."""
_APART = Devices(trainer=(0,), engines=(1,), node=2)
"""A trainer that shares no engine's GPU."""


class Each(Engines):
    """Its steps.

    Args:
        where: the session.
        pair: the trainer's ranks.
    """

    def __init__(self, where: Where, pair: Pair) -> None:
        super().__init__(where, pair, per_engine=1, who="two_engines")

    def run(self, steps: Steps) -> None:
        """All of them."""
        self.cycle(steps)
        steps.run("requests_are_spread_over_two_engines", self._spread, limit=180)
        steps.run("a_bucket_and_nccl_reach_two_engines", self._mixed)
        steps.run("nccl_reaches_an_engine_on_another_gpu", self._apart)

    def _spread(self) -> str:
        """ROLL's router: prompts of different ids go to the engine that has fewer."""

        def ask(uid: int, request: Any) -> Comparison:
            answer = client.generate_request_sync(req=request, request_id=None, uid=uid)
            tokens, logprobs = (answer.meta_info[f"output_{name}"][0] for name in _ANSWER)
            return self.other.compare(smoke_model.PROMPT, tokens, logprobs)

        requests = [batch(self.infer, max_new_tokens=_LENGTH) for _ in range(_REQUESTS)]
        with routed(self.infer) as (client, manager), ThreadPoolExecutor(_REQUESTS) as pool:
            answers = list(pool.map(ask, range(_REQUESTS), requests))
            chosen = get(manager.__ray_call__.remote(_chosen))
        assert all(answer.close for answer in answers), f"other weights: {answers}"
        counts = Counter(chosen.values())
        assert set(counts) == {0, 1}, f"one engine had them all: {counts}"
        self.infer.load()  # both compute the whole prompt: what one had cached may round otherwise
        one, two = (self.infer.ask("same", rank)["output_token_ids"] for rank in (0, 1))
        assert one == two, f"the engines answer {one} and {two}"
        return f"{counts[0]} and {counts[1]} requests; alone both answer {one[0]}"

    def _mixed(self) -> str:
        """A trainer beside the first engine: a bucket to it, a broadcast to the second."""
        config = read(document(self.where, _FIRST))
        summary = self._send(config, self.infer.cluster, "mixed", "own")
        return f"{summary}; {self.need('own')}"

    def _apart(self) -> str:
        """ROLL's separate mode, to the second engine alone; the first keeps its weights."""
        config = read(document(self.where, _APART))
        second = copy.copy(self.infer.cluster)
        second.workers, second.worker_config = second.workers[1:], config.actor_infer
        summary = self._send(config, second, "apart", "other")
        self.infer.load()
        kept, new = self.infer.compare(self.own, 0), self.infer.compare(self.other, 1)
        assert new.close, f"the second engine has other weights: {new}"
        assert kept.close, f"the first engine has lost its weights: {kept}"
        return f"{summary}; second: {new}; first: {kept}"

    def _send(self, config: Any, cluster: Any, name: str, which: str) -> str:
        sender = self.pair.alone
        summary = str(get(sender.connect.remote(config, cluster, name)))
        get(sender.update.remote(name, which))
        return summary


def _chosen(manager: Any) -> dict[int, int]:
    """The engine that the router chose, by the prompt's id."""
    return dict(manager.router.id_to_dp_rank)
