"""The engines of a cluster on two GPUs, and the cycle that each such cluster must go through."""

from __future__ import annotations

import time
from typing import Any

from kit_cluster import Infer
from kit_pair import Pair
from kit_reference import Reference, other_weights, read_weights
from kit_settings import Devices, Where
from kit_steps import Steps

_FREED = 1.0  # GiB that a release gives back at least, on each device


class Engines:
    """A cluster of engines, with a trainer on the same two devices.

    Args:
        where: the session.
        pair: the trainer's ranks.
        per_engine: how many devices one engine has.
        who: the engines, in the steps' names.
    """

    def __init__(self, where: Where, pair: Pair, per_engine: int, who: str) -> None:
        devices = Devices(trainer=(0, 1), engines=(0, 1), per_engine=per_engine, node=2)
        self.infer = Infer(where, devices)
        self.where, self.pair = where, pair
        self._who = who
        weights = read_weights(where.model)
        self.own = Reference(where.model)
        self.other = Reference(where.model, other_weights(weights))

    def start(self) -> str:
        """Wait for the engines; gives how many ranks each has."""
        self.infer.start()
        found = self.infer.on_workers(_tensor_parallel_size)
        wanted = self.infer.devices.per_engine
        assert set(found) == {wanted}, f"the engines have {found} ranks, not {wanted}"
        return f"{len(found)} of {wanted}"

    def environments(self) -> list[dict[str, str]]:
        """Each worker's environment, as its engine's processes inherit it."""
        return self.infer.on_workers(_environment)

    def cycle(self, steps: Steps) -> None:
        """The steps of a colocated job, in its order."""
        who = self._who
        steps.run(f"memory_is_loaded_by_{who}", self.load, vital=True)
        steps.run(f"buckets_reach_{who}", self._buckets, limit=180, vital=True)
        steps.run(f"offload_update_load_of_{who}", self._with_update, limit=180)
        steps.run(f"offload_load_update_of_{who}", self._without_update, limit=180)

    def need(self, which: str) -> str:
        """An AssertionError unless all engines answer as a CPU with those weights does."""
        self.infer.load()  # as after each of ROLL's updates: it flushes the prefix cache
        summary = self.infer.need_like(self.own if which == "own" else self.other)
        return f"{which}: {summary}"

    def _buckets(self) -> str:
        summary = [self.pair.connect(self.infer.config, self.infer.cluster, self._who)]
        for which in ("own", "other"):
            summary.append(self._update(which))
        return "; ".join(summary)

    def _update(self, which: str) -> str:
        self.pair.update(self._who, which)
        return self.need(which)

    def _with_update(self) -> str:
        summary = [self._offload()]
        self.pair.update(self._who, "own")
        return "; ".join([*summary, self.load(), self.need("own")])

    def _without_update(self) -> str:
        """The weights are undefined after the load, until the update."""
        return "; ".join([self._offload(), self.load(), self._update("other")])

    def load(self) -> str:
        """Take the memory on both devices."""
        before = self.pair.memory()
        self.infer.load()
        return _change(before, self.pair.memory())

    def _offload(self) -> str:
        before = self.pair.memory()
        self.infer.offload()
        time.sleep(0 if self.where.cpu else 2)
        after = self.pair.memory()
        if self.where.cpu:
            return "called; a CPU releases nothing"
        freed = [old - new for old, new in zip(before, after, strict=True)]
        assert min(freed) > _FREED, f"{_change(before, after)}: not released on each device"
        return _change(before, after)


def _change(before: list[float], after: list[float]) -> str:
    pairs = zip(before, after, strict=True)
    return ", ".join(f"{old:.2f} -> {new:.2f} GiB" for old, new in pairs)


def _tensor_parallel_size(worker: Any) -> int:
    return int(worker.strategy.model.engine.server_args.tp_size)


def _environment(worker: Any) -> dict[str, str]:
    import os

    return dict(os.environ)
