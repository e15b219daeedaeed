"""One pull by an engine: seconds, bytes, and what the machine was busy with."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines.engine import Engine
from benchmarks.processes import cpu_seconds, timed
from benchmarks.rivals.results import Reading
from benchmarks.rivals.steps import KeptRegistry


@dataclass(frozen=True)
class Ticks:
    """Clock ticks of all processors since the machine started."""

    busy: int
    waiting: int

    @classmethod
    def of(cls, line: str) -> Ticks:
        """Return those of the first line of /proc/stat."""
        user, nice, system, _, waiting, *interrupts = map(int, line.split()[1:9])
        return cls(user + nice + system + sum(interrupts), waiting)

    @classmethod
    def now(cls) -> Ticks:
        """Return those until now."""
        return cls.of(Path("/proc/stat").read_text().partition("\n")[0])


def settle() -> None:
    """Have the disk finish, and the kernel forget the files that were removed before.

    ext4 looks through the inodes that were freed shortly before for each file that it makes: after
    a storage was removed, a pull by containerd took 66 s instead of 48, of that 28 s of processor.
    """
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


class Node:
    """A node with a running engine.

    Args:
        engine: of the node.
        daemons: process ids of its daemons.
        registry: the registry that it pulls from.
    """

    def __init__(self, engine: Engine, daemons: Sequence[int], registry: KeptRegistry) -> None:
        self._engine = engine
        self._daemons = daemons
        self._registry = registry

    def pull(self, tag: str) -> Reading:
        """Pull an image, and measure it.

        Returns:
            seconds: of the pull.
            written: seconds until the disk has all of it; engines leave most to the kernel.
            fetched: bytes that the registry sent.
            disk: bytes that the storage grew by.
            cpu: seconds of processors that the engine used.
            busy: processors of this machine that were busy on average, the registry's included.
            waiting: those that had nothing to do but to wait for the disk.
        """
        settle()
        self._registry.warm(tag)
        used = self._engine.used()
        self._registry.relay.counted()
        spent, ticks = cpu_seconds(self._daemons), Ticks.now()
        run, _ = timed(tag, self._engine.pull(self._registry.reference(tag)))
        then = Ticks.now()
        cpu = run.cpu + cpu_seconds(self._daemons) - spent
        fetched, _ = self._registry.relay.counted()
        begin = time.perf_counter()
        os.sync()
        written = run.seconds + time.perf_counter() - begin
        disk = self._engine.used() - used
        rate = os.sysconf("SC_CLK_TCK") * run.seconds
        return {
            "seconds": run.seconds,
            "written": written,
            "fetched": fetched,
            "disk": disk,
            "cpu": cpu,
            "busy": (then.busy - ticks.busy) / rate,
            "waiting": (then.waiting - ticks.waiting) / rate,
            "load": os.getloadavg()[0],
        }
