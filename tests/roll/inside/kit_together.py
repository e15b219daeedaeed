"""One engine on two GPUs (`num_gpus_per_worker: 2`)."""

from __future__ import annotations

from kit_cluster import get
from kit_engines import Engines
from kit_pair import Pair
from kit_settings import Where
from kit_steps import Steps

_GROUP = "two_gpus_gloo"
_RANKS = 3  # the trainer, and the engine's two


class Together(Engines):
    """Its steps.

    Args:
        where: the session.
        pair: the trainer's ranks.
    """

    def __init__(self, where: Where, pair: Pair) -> None:
        super().__init__(where, pair, per_engine=2, who="one_engine")
        # From the seed ROLL draws its engines' ports: another one than the other cluster's.
        self.infer.config.seed += 1

    def run(self, steps: Steps) -> None:
        """All of them."""
        self.cycle(steps)
        steps.run("a_broadcast_reaches_both_ranks", self._broadcast)

    def _broadcast(self) -> str:
        """Tensor by tensor through a group; gloo, for the trainer has a GPU of the engine's."""
        from roll.utils.network_utils import collect_free_port, get_node_ip

        sender, worker = self.pair.alone, self.infer.worker
        address, port = get_node_ip(), collect_free_port()
        joined = worker.setup_collective_group.remote(
            master_address=address,
            master_port=port,
            rank_offset=1,
            world_size=_RANKS,
            group_name=_GROUP,
            backend="gloo",
        )
        get([sender.join.remote(address, port, _GROUP, _RANKS), joined])
        names, dtypes, shapes = get(sender.describe.remote("own"))
        update = worker.broadcast_parameter.remote(
            names=names, dtypes=dtypes, shapes=shapes, group_name=_GROUP, is_lora=False
        )
        get([sender.send.remote("own", _GROUP), update])
        return f"{len(names)} tensors; {self.need('own')}"
