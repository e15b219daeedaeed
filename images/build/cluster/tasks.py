"""Values that the driver and the workers of a cluster send each other, and the tasks of a build.

A task names a layer by its target and its key. The worker computes the key anew from its copy of
the checkout, so a worker whose locks or tools differ refuses the task, and fills no cache with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from images.oci.descriptor import Compression

if TYPE_CHECKING:
    from images.build.prepare import Prepared
    from images.build.recipe import Recipe

_GIB = 1 << 30
_COMPILING = 4  # processors for a layer that something is compiled for


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks of a build have in common.

    Attributes:
        matrix: the path of the matrix in the copy of the checkout.
        compression: of the layers.
        repository: the shared cache that takes the layers, `REGISTRY/REPOSITORY`.
        plain_http: whether registries are used without TLS.
        mirror: what the user set as the Debian mirror, if anything.
    """

    matrix: str
    compression: Compression
    repository: str
    plain_http: bool
    mirror: str | None


@dataclass(frozen=True, slots=True)
class Task:
    """A layer to make.

    Attributes:
        target: the id of a target that has it.
        key: the digest of its inputs.
        title: its title.
        work: how much work it is, in bytes of wheels.
        cpus: the processors that Ray reserves for it.
        memory: the bytes of memory that Ray reserves for it.
    """

    target: str
    key: str
    title: str
    work: int
    cpus: int
    memory: int

    def fits(self, size: tuple[float, float]) -> bool:
        """Return whether a node of so many processors and bytes of memory is large enough."""
        return self.cpus <= size[0] and self.memory <= size[1]


@dataclass(frozen=True, slots=True)
class Made:
    """What a worker reports; for the user's eyes only.

    Attributes:
        node: the worker's host name.
        size: bytes of the layer, as stored.
        seconds: that making and uploading it took.
    """

    node: str
    size: int
    seconds: float


def tasks(prepared: Iterable[Prepared], present: Collection[str]) -> list[Task]:
    """Return the tasks of targets, the most work first; a layer that several have is one task.

    Layers that are made from no file (`roll_runtime`) are left to the driver, and so are those that
    only it can make: of custom wheels, which no index has, and for the Python of a custom base.

    Args:
        prepared: the targets.
        present: keys of layers that exist.
    """
    found: dict[str, tuple[str, Recipe]] = {}
    for one in prepared:
        known_to_workers = {recipe.key for recipe in one.inputs.recipes()}
        for recipe in one.recipes:
            if recipe.key in known_to_workers - {*present} and _can_travel(recipe):
                found.setdefault(recipe.key, (one.target.id, recipe))
    heaviest = sorted(found.values(), key=lambda item: -_work(item[1]))
    return [_task(target, recipe) for target, recipe in heaviest]


def _can_travel(recipe: Recipe) -> bool:
    return bool(recipe.needs) and not any(item.custom for item in recipe.distributions)


def _task(target: str, recipe: Recipe) -> Task:
    cpus = _COMPILING if recipe.compiling else 1
    # nvcc takes about 1 GiB for each file that it compiles.
    return Task(target, recipe.key, recipe.title, _work(recipe), cpus, cpus * _GIB)


def _work(recipe: Recipe) -> int:
    """Return how much work a layer is on a worker, which may have to fetch all that it needs."""
    return recipe.compiling + sum(file.size for file in dict.fromkeys(recipe.needs))


def fitting(task: Task, sizes: Sequence[tuple[float, float]]) -> Task:
    """Return a task that fits on a node: Ray would wait forever for a node that is large enough.

    Args:
        task: the task.
        sizes: processors and bytes of memory of each node.
    """
    if any(task.fits(size) for size in sizes):
        return task
    cpus, memory = max(sizes, default=(task.cpus, task.memory))
    return replace(task, cpus=min(task.cpus, int(cpus)), memory=min(task.memory, int(memory)))
