"""ROLL on two GPUs of one host: an engine on both, an engine on each, and weights across them.

All engines and trainers live at once, in one Ray: an engine's start takes most of the time. Their
KV caches are small for that, and nothing generates before the first update.
"""

from __future__ import annotations

import kit_multicast
import kit_processes
from kit_cluster import allocate
from kit_each import Each
from kit_pair import Pair
from kit_settings import Where, prepare
from kit_start import check_imports, start_ray
from kit_steps import Steps, in_ray, leave
from kit_together import Together

_ONE, _TWO = "one_engine_starts_on_two_gpus", "two_engines_start_on_a_gpu_each"


class Session:
    """The node's devices, and what lives on them.

    Args:
        where: the session.
    """

    def __init__(self, where: Where) -> None:
        self.pair = Pair(where.model, cpu=where.cpu)
        self.together = Together(where, self.pair)
        self.each = Each(where, self.pair)

    def make(self) -> str:
        """The trainers and both clusters, on the same two devices."""
        resources = allocate(2)
        self.pair.make(resources)
        summary = [self.together.infer.make(resources), self.each.infer.make(resources, "_each")]
        return "; ".join(summary)

    def ask_workers(self) -> str:
        """The environment of ROLL's workers, which the engines' processes inherit."""
        found = self.together.environments() + self.each.environments()
        for env in found:
            kit_multicast.need_off(env, env.get("WORKER_NAME", "a worker"))
        return f"off in {', '.join(env['WORKER_NAME'] for env in found)}"

    def begin(self) -> str:
        """Let all engines start at once; the trainers' ranks find each other meanwhile."""
        self.together.infer.begin()
        self.each.infer.begin()
        return f"by {self.pair.begin()}"

    def end(self) -> str:
        """End all workers, as the end of a job does."""
        return f"{self.together.infer.close()}; {self.each.infer.close()}"


def run(steps: Steps, session: Session) -> None:
    """All steps."""
    together, each = session.together, session.each
    steps.run("ray_starts", start_ray, vital=True)
    steps.run("trainers_and_clusters_are_made", session.make, limit=240, vital=True)
    steps.run("multicast_is_off_in_rolls_workers", session.ask_workers, vital=True)
    # Not watched: an engine that dies is to fail its own step, not the one that runs meanwhile.
    steps.run("two_trainers_add_up", session.begin, vital=True, watched=False)
    with steps.group(""):
        steps.run(_ONE, together.start, limit=240, watched=False)
    with steps.group(""):
        steps.run(_TWO, each.start, limit=240, watched=False)
    steps.run("multicast_is_off_in_the_schedulers", kit_multicast.need_off_in_schedulers)
    with steps.group(_ONE):
        together.run(steps)
    with steps.group(_TWO):
        each.run(steps)
    steps.run("the_engines_end", session.end, watched=False)
    steps.run("no_engine_is_left", kit_processes.need_no_engine, always=True, watched=False)


def main() -> int:
    """Run the session and return the exit code."""
    where = prepare("two_gpus")
    steps = Steps(where.out)
    steps.run("multicast_is_off_before_all", kit_multicast.need_off_here, vital=True)
    steps.run("modules_are_imported", check_imports, limit=240, vital=True)
    if steps.stopped:
        return 1
    session = Session(where)
    return in_ray(steps, lambda: run(steps, session), "no_ray_is_left")


if __name__ == "__main__":
    leave(main())
