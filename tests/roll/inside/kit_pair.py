"""The trainer's side of a session on two GPUs: a rank on each, and one that is alone on the first.

The two are of a trainer that has both devices, the third of one that has the first alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kit_trainer
from kit_cluster import get
from kit_trainer import Place
from kit_updater import Rank


class Pair:
    """The actors.

    Args:
        model: the checkpoint's folder.
        cpu: a rehearsal without GPUs.
    """

    def __init__(self, model: Path, *, cpu: bool) -> None:
        self._model, self._cpu = model, cpu
        self._ranks: list[Any] = []
        self.alone: Any = None

    def make(self, resources: Any) -> None:
        """Make the actors; two have the allocator that ROLL gives its workers."""
        places = [Place(f"trainer-{rank}", kit_trainer.EXPANDABLE, rank) for rank in (0, 1)]
        *self._ranks, self.alone = [
            kit_trainer.make(resources, self._model, place, cpu=self._cpu, kind=Rank)
            for place in [*places, Place("trainer-alone")]
        ]

    def begin(self) -> str:
        """Let the ranks find each other; gives the backends."""
        from roll.utils.network_utils import collect_free_port, get_node_ip

        address, port = get_node_ip(), collect_free_port()
        calls = [
            actor.begin.remote(address, port, rank, 2) for rank, actor in enumerate(self._ranks)
        ]
        summary = get(calls)
        summary.append(get(self.alone.begin.remote(address, collect_free_port(), 0, 1)))
        return ", ".join(summary)

    def connect(self, config: Any, cluster: Any, name: str) -> str:
        """Let ROLL's updater of each rank find its way to a cluster."""
        return "; ".join(get([rank.connect.remote(config, cluster, name) for rank in self._ranks]))

    def update(self, name: str, which: str) -> None:
        """Send weights from both ranks."""
        get([rank.update.remote(name, which) for rank in self._ranks])

    def memory(self) -> list[float]:
        """GPU memory in use on each device, GiB; zeros on a CPU."""
        if self._cpu:
            return [0.0, 0.0]
        found: list[float] = get([rank.memory_gib.remote() for rank in self._ranks])
        return found
