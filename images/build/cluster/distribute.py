"""Make the layers that builds lack on a cluster, into the shared cache.

A worker's answer decides nothing: the driver's build finds a layer in the shared cache, under its
key, or makes it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from images.build import layer_cache
from images.build.builder import CacheLookup
from images.build.cluster import checkout, ray_cluster
from images.build.cluster import tasks as planning
from images.build.cluster.tasks import Job, Made, Task
from images.build.prepare import Prepared
from images.inputs.build_options import BuildOptions
from images.inputs.matrix.records import Matrix
from images.oci.store.remote_layers import Location
from images.repository import ROOT
from images.util.progress import Meter, Progress, size


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the tasks.

    Attributes:
        made: what the workers report.
        failed: titles of the layers that the driver must make, and why.
    """

    made: list[Made] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def make(
    prepared: Sequence[Prepared],
    matrix: Matrix,
    options: BuildOptions,
    where: tuple[str, Location],
    lookup: CacheLookup,
    progress: Progress,
) -> Result | None:
    """Make layers that neither the store nor a cache has on a cluster; None if there are none.

    Args:
        prepared: the targets.
        matrix: that they are of.
        options: of the build.
        where: the address of the cluster, and the shared cache that takes the layers.
        lookup: finds layers in that cache, and in others.
        progress: reports the stages.

    Raises:
        UsageError, ToolError: the cluster cannot be used.
        RegistryError: the shared cache cannot be written.
    """
    tasks = _tasks(prepared, options, lookup, progress)
    if not tasks:
        return None
    address, cache = where
    layer_cache.check(cache)
    with tempfile.TemporaryDirectory(prefix="roll-images-") as directory:
        path = checkout.copy(matrix, Path(directory))
        job = Job(path, options.compression, str(cache), options.plain_http, options.mirror)
        with ray_cluster.connected(address, Path(directory)) as cluster:
            with progress.timed("check"):
                cluster.check(_requirements(), job)
            result = Result()
            with progress.stage("cluster", sum(task.work for task in tasks)) as meter:
                cluster.run(tasks, job, _Noting(result, meter), meter.log)
            return result


def _tasks(
    prepared: Sequence[Prepared],
    options: BuildOptions,
    lookup: CacheLookup,
    progress: Progress,
) -> list[Task]:
    every = {recipe.key: recipe for one in prepared for recipe in one.recipes}
    here = {key for key in every if options.store.layer_keys.known(key)}
    lacking = [recipe for key, recipe in every.items() if key not in here]
    if not lacking:
        return []
    with progress.timed("lookup"):
        return planning.tasks(prepared, here | lookup(lacking).keys())


class _Noting:
    """Notes what became of tasks, and shows it."""

    def __init__(self, result: Result, meter: Meter) -> None:
        self._result, self._meter = result, meter

    def __call__(self, task: Task, found: Made | str) -> None:
        self._meter.advance(task.work)
        if isinstance(found, Made):
            self._result.made.append(found)
            seconds = f"{size(found.size)} in {found.seconds:.1f} s"
            self._meter.log(f"  made {task.title}: {seconds} on {found.node}")
        else:
            self._result.failed.append((task.title, found))
            self._meter.log(f"  {task.title}: {found}; it is made here")


def _requirements() -> list[str]:
    import tomli

    document = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [str(item) for item in document["project"]["dependencies"]]
