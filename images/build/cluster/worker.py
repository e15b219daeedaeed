"""Makes a layer on a worker, and uploads it into the shared cache."""

from __future__ import annotations

import platform
import time
from contextlib import suppress

from images.build import layer_cache, layer_maker, prepare
from images.build.builder import BuiltLayer
from images.build.cluster.tasks import Job, Made, Task
from images.build.prepare import Inputs
from images.build.recipe import Recipe
from images.errors import IntegrityError
from images.inputs.build_options import BuildOptions
from images.inputs.matrix.load import load
from images.oci.image import Layer
from images.oci.registry.concurrency import TRANSFERS
from images.oci.store import store
from images.repository import ROOT
from images.util import user_cache
from images.util.progress import Progress

_STORE = "cluster-store"
"""The name of a worker's store, in its download cache."""


def make(task: Task, job: Job) -> Made:
    """Make a layer on this machine, and upload it into the shared cache.

    Raises:
        BuildError: of the kind that fits.
    """
    begin = time.monotonic()
    inputs = _inputs(task, job)
    recipe = _recipe(inputs, task)
    cache = user_cache.directory()
    layout = store.open_store(cache / _STORE)
    options = BuildOptions(
        cache=cache,
        matrix=ROOT / job.matrix,
        jobs=task.cpus,
        mirror=job.mirror,
        plain_http=job.plain_http,
        store=layout,
        compression=job.compression,
    )
    progress = Progress()
    with layout.building():
        # A task that was begun anew may find the layer of the time before.
        blob = layout.layer_keys.known(recipe.key)
        if blob is None:
            blob = layer_maker.make([recipe], inputs.debs, options, progress, None)[recipe.key]
        built = BuiltLayer(Layer(recipe.title, blob), False, recipe.key)
        where = layer_cache.location(job.repository, plain_http=job.plain_http)
        layer_cache.fill(layout, [built], where, jobs=TRANSFERS, progress=progress)
        with suppress(OSError):  # a worker's disk must not fill up with what is in the cache
            layout.blobs.path(blob.digest).unlink()
    return Made(platform.node(), blob.size, time.monotonic() - begin)


def _inputs(task: Task, job: Job) -> Inputs:
    matrix = load(ROOT / job.matrix)
    return prepare.inputs_of(matrix, matrix.target(task.target), job.compression)


def _recipe(inputs: Inputs, task: Task) -> Recipe:
    for recipe in inputs.recipes():
        if recipe.key == task.key:
            return recipe
    raise IntegrityError(
        f"layer {task.title}: its key on {platform.node()} is another one than the driver's",
        remedy="install what the driver has: the packages of pyproject.toml in these versions",
    )
