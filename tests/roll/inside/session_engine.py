"""ROLL's inference worker with the SGLang strategy: each call of a training cycle, step by step.

Nothing generates before the first update: the engine has dummy weights, and no job asks it then.
(If something does, SGLang 0.5.2 answers otherwise after the update until the next release.)
"""

from __future__ import annotations

import time

import kit_processes
import kit_trainer
from kit_cluster import Infer, get
from kit_reference import Reference, other_weights, read_weights
from kit_requests import Requests
from kit_settings import Where, prepare
from kit_start import check_imports, start_ray
from kit_steps import SkippedError, Steps, in_ray, leave

_FREED = 1.0  # GiB that a release gives back at least
_GROUP = "roll_test_group"


class Session:
    """The state that the steps share."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.infer = Infer(where)
        weights = read_weights(where.model)
        self.own = Reference(where.model)
        self.other = Reference(where.model, other_weights(weights))
        self.trainers: dict[str, object] = {}

    def make_cluster(self) -> str:
        """The worker, and a trainer beside it without and one with expandable segments."""
        summary = self.infer.make()
        for name, allocator in (("plain", ""), ("expandable", kit_trainer.EXPANDABLE)):
            place = kit_trainer.Place(name, allocator)
            self.trainers[name] = kit_trainer.make(
                self.infer.resources, self.where.model, place, cpu=self.where.cpu
            )
        return summary

    def bucket(self, trainer: str, which: str) -> str:
        """Send one bucket; the engine must then answer as a CPU with the same weights."""
        sender = self.trainers[trainer]
        text, allocator = get(sender.bucket.remote(which))  # type: ignore[attr-defined]
        get(self.infer.worker.update_parameter_in_bucket.remote([text], is_lora=False))
        return f"{len(text)} characters, PYTORCH_CUDA_ALLOC_CONF={allocator!r}"

    def answers(self, which: str) -> str:
        """Whether the engine answers as a CPU with those weights does."""
        return self.infer.need_like(self.own if which == "own" else self.other)

    def update(self, trainer: str, which: str) -> str:
        """A bucket, and the engine's answer after it."""
        if trainer == "expandable":
            if self.where.cpu:
                raise SkippedError("expandable segments are of a GPU's allocator")
            sender = self.trainers[trainer]
            assert get(sender.segments.remote()), "the trainer has none"  # type: ignore[attr-defined]
        summary = self.bucket(trainer, which)
        self.infer.load()  # as after each of ROLL's updates: it flushes the prefix cache
        return f"{summary}; {self.answers(which)}"

    def memory(self) -> float:
        """GPU memory in use, GiB; 0 on a CPU."""
        if self.where.cpu:
            return 0.0
        return float(get(self.trainers["plain"].memory_gib.remote()))  # type: ignore[attr-defined]

    def offload(self) -> str:
        """Release the engine's memory; on a GPU it must be gone."""
        before = self.memory()
        self.infer.offload()
        time.sleep(0 if self.where.cpu else 2)
        after = self.memory()
        if self.where.cpu:
            return "called; a CPU releases nothing"
        assert before - after > _FREED, f"{before:.2f} -> {after:.2f} GiB: nothing was released"
        return f"{before:.2f} -> {after:.2f} GiB"

    def load(self) -> str:
        """Take the memory again."""
        before = self.memory()
        self.infer.load()
        return "called" if self.where.cpu else f"{before:.2f} -> {self.memory():.2f} GiB"

    def cycle(self) -> str:
        """Offloaded, updated while it is, loaded: the cycle of a colocated job."""
        summary = [self.offload(), self.bucket("plain", "own"), self.load(), self.answers("own")]
        return "; ".join(summary)

    def cycle_without_update(self) -> str:
        """Offloaded and loaded: the weights are undefined then, until the next update."""
        summary = [self.offload(), self.load(), self.update("plain", "own")]
        return "; ".join(summary)

    def broadcast(self) -> str:
        """Other weights, tensor by tensor through a group; gloo, for NCCL takes a GPU once."""
        from roll.utils.network_utils import collect_free_port, get_node_ip

        sender, worker = self.trainers["plain"], self.infer.worker
        address, port = get_node_ip(), collect_free_port()
        joined = worker.setup_collective_group.remote(
            master_address=address,
            master_port=port,
            rank_offset=1,
            world_size=2,
            group_name=_GROUP,
            backend="gloo",
        )
        get([sender.join.remote(address, port, _GROUP), joined])  # type: ignore[attr-defined]
        names, dtypes, shapes = get(sender.describe.remote("other"))  # type: ignore[attr-defined]
        update = worker.broadcast_parameter.remote(
            names=names, dtypes=dtypes, shapes=shapes, group_name=_GROUP, is_lora=False
        )
        get([sender.send.remote("other", _GROUP), update])  # type: ignore[attr-defined]
        self.infer.load()
        return f"{len(names)} tensors; {self.answers('other')}"


def run(steps: Steps, session: Session) -> None:
    """All steps, in the order of a job."""
    infer = session.infer
    steps.run("ray_starts", start_ray, vital=True)
    steps.run("the_cluster_is_made", session.make_cluster, limit=180, vital=True)
    steps.run("the_engine_starts_in_a_ray_actor", infer.start, limit=420, vital=True)
    steps.run("its_memory_is_loaded", session.load, vital=True)
    steps.run("a_bucket_update_arrives", lambda: session.update("plain", "own"))
    steps.run(
        "a_bucket_update_from_expandable_segments_arrives",
        lambda: session.update("expandable", "other"),
    )
    steps.run("offload_update_load", session.cycle, limit=180)
    steps.run("offload_load_update", session.cycle_without_update, limit=180)
    steps.run("a_broadcast_update_arrives", session.broadcast, limit=180)
    Requests(infer, session.other).run(steps)
    steps.run("offload_update_load_again", session.cycle, limit=180)
    steps.run("the_actor_ends", infer.close, watched=False)
    steps.run(
        "no_process_of_the_engine_is_left", kit_processes.need_no_engine, always=True, watched=False
    )


def main() -> int:
    """Run the session and return the exit code."""
    where = prepare("engine")
    steps = Steps(where.out)
    steps.run("rolls_modules_are_imported", check_imports, limit=240, vital=True)
    if steps.stopped:
        return 1
    session = Session(where)
    return in_ray(steps, lambda: run(steps, session), "no_process_of_ray_is_left")


if __name__ == "__main__":
    leave(main())
