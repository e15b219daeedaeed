"""`build`: make images in the store."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from images.commands.arguments import Command, Parser
from images.commands.fetch import fetch_values
from images.commands.options import (
    add_cache,
    add_compression,
    add_gpus,
    add_jobs,
    add_json,
    add_mirror,
    add_plain_http,
    add_targets,
)
from images.commands.report.printing import print_documents, print_summary
from images.commands.selection import (
    chosen,
    copy_wheels,
    inputs_of,
    remote_locations,
)
from images.errors import UsageError
from images.repository import ROOT
from images.util import output, sha256
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.attest.provenance import Build
    from images.build.builder import BuiltLayer, CacheLookup
    from images.build.conflicts.comparison import Comparison
    from images.build.layer_cache import Filled
    from images.build.prepare import Inputs, Prepared
    from images.inputs.build_options import BuildOptions
    from images.inputs.matrix.records import Matrix
    from images.oci.image import Image
    from images.oci.store.remote_layers import Location
    from images.oci.store.store import Store


@dataclass(frozen=True)
class _Built:
    """The result of a target's build."""

    image: Image
    reused: list[bool]
    filled: Filled | None


def _add_build_options(parser: Parser) -> None:
    add_targets(parser)
    add_gpus(parser)
    add_cache(parser)
    parser.add_argument(
        "--offline",
        action="store_true",
        help="use no network; fail if a file is missing, with the command that fetches it",
    )
    parser.add_argument(
        "--only-known",
        action="store_true",
        help="make no layer; fail if neither the store nor a cache has one. Then no code of any "
        "package runs, which is what a machine with a login for the registry should do",
    )
    add_compression(
        parser,
        "of layers (default: %(default)s): gzip for registries and engines without zstd, such as "
        "Docker before 23",
    )
    add = parser.add_argument
    add(
        "--cache-from",
        action="append",
        default=[],
        metavar="REGISTRY/REPO",
        help="reuse layers of this shared cache; their bytes are fetched when they are needed. "
        "Repeatable: the first cache that has a layer is used. Whoever may write to it decides "
        "what the layers contain",
    )
    add(
        "--cache-to",
        metavar="REGISTRY/REPO",
        help="push layers that this shared cache lacks after the build; login from `docker login`",
    )
    add(
        "--ray",
        metavar="ADDRESS",
        help="make the layers on this Ray cluster: HOST:6379 on one of its machines, "
        "ray://HOST:10001 elsewhere. They travel through the shared cache of --cache-to, which "
        "is read as well (docs/cluster-builds.md)",
    )
    add_plain_http(parser)
    add_jobs(parser, "layers at a time")
    add_mirror(parser)
    add_json(parser)


def build(options: argparse.Namespace) -> int:
    """Build images into the store."""
    from images.commands.report import images as report
    from images.commands.report import proof

    _check_ray(options)
    matrix, targets = chosen(options)
    copy_wheels(targets, options)
    # Every lock is read before anything is made: a stale one must not surface after an hour.
    inputs = inputs_of(matrix, targets, options.compression)
    build_options = _options_of(options)
    caches = _caches(options)
    documents = []
    with build_options.store.building():
        # And every custom base is checked against its target, for the same reason.
        prepared = [_prepared(one, build_options) for one in inputs]
        if options.ray:
            _on_cluster(options, matrix, prepared, build_options, caches)
        for one in prepared:
            progress = Progress()
            with progress.timed("total"):
                built = _build(one, matrix, build_options, caches, progress)
            path, elsewhere = build_options.store.path, remote_locations(build_options.store)
            documents.append(report.image_document(built.image, path, built.reused, elsewhere))
            summary = report.build_summary(
                built.image, built.reused, progress.seconds, path, elsewhere, built.filled
            )
            proven = proof.line(matrix.path, one.target, built.image.manifest_digest)
            print_summary(options, f"{summary}\n  {proven}")
    if options.json:
        print_documents(documents)
    return 0


BUILD = Command("build", build, _add_build_options)


def _check_ray(options: argparse.Namespace) -> None:
    """Check that the options fit a build on a cluster, if it is one.

    Raises:
        UsageError: they do not.
    """
    if not options.ray:
        return
    if not options.cache_to:
        raise UsageError(
            "--ray needs a shared cache, which takes the layers from the workers to this machine",
            remedy="add --cache-to REGISTRY/REPO; the workers must reach it and log in to it",
        )
    if options.only_known:
        raise UsageError("--only-known makes no layer, and --ray makes them on a cluster")


def _on_cluster(
    options: argparse.Namespace,
    matrix: Matrix,
    prepared: Sequence[Prepared],
    build_options: BuildOptions,
    caches: tuple[CacheLookup | None, Location | None],
) -> None:
    """Make on a cluster what the store and the caches lack; the builds then find it."""
    from images.build.cluster import distribute
    from images.commands.report import cluster as report

    lookup, cache_to = caches
    if lookup is None or cache_to is None:  # `_check_ray` and `_caches` make sure
        return
    progress = Progress()
    where = options.ray, cache_to
    result = distribute.make(prepared, matrix, build_options, where, lookup, progress)
    if result is not None:
        print_summary(options, report.summary(result, progress.seconds))


def _options_of(options: argparse.Namespace) -> BuildOptions:
    from images.inputs.build_options import BuildOptions
    from images.oci.store import store

    return BuildOptions(
        **fetch_values(options, offline=options.offline),
        store=store.open_store(options.store),
        compression=options.compression,
        only_known=options.only_known,
    )


def _prepared(inputs: Inputs, options: BuildOptions) -> Prepared:
    """Make a target's base ready, and report what it lacks of the target's flavour."""
    from images.build import prepare
    from images.commands.report import images as report

    found = prepare.ready(inputs, options, Progress(), options.store)
    if found.base.lacking_debs:
        output.message(report.lacking_debs(inputs.target, found.base.lacking_debs))
    return found


def _build(
    one: Prepared,
    matrix: Matrix,
    options: BuildOptions,
    caches: tuple[CacheLookup | None, Location | None],
    progress: Progress,
) -> _Built:
    """Make one target's image, name it, and attach its SBOM and provenance."""
    from images.analysis import budget
    from images.attest import attach
    from images.build import assemble, builder, prepare
    from images.build.conflicts import target_files

    started = datetime.now(timezone.utc)
    lookup, cache_to = caches
    inputs = one.inputs
    compare = target_files.pending(one.target, inputs.lock, one.recipes, options.store)
    ours = builder.make(one.recipes, inputs.debs, options, progress, lookup, compare)
    if compare is not None:
        _note(compare, one.target.id, options.store)
    made = [*prepare.put(one.base, options), *ours]
    image = assemble.assemble(
        one.target,
        sha256.of_file(matrix.lock_path(one.target.lock_id)),
        [item.layer for item in made],
        one.base.inherited,
    )
    budget.check(one.target, image, options.store)
    options.store.save(image)
    reused = [item.reused for item in made]
    run = _run(inputs, matrix, options, started, ours, reused)
    attach.complete(options.store, image, one.materials, run)
    return _Built(
        image, reused, _fill(options.store, ours, cache_to, progress) if cache_to else None
    )


def _note(compare: Comparison, target: str, store: Store) -> None:
    compare.note(store)
    if absent := compare.absent:
        output.message(
            f"{target}: {len(absent)} distributions are in layers that are in a registry only: "
            "their files were not compared with those of the others"
        )


def _run(
    one: Inputs,
    matrix: Matrix,
    options: BuildOptions,
    started: datetime,
    made: Sequence[BuiltLayer],
    reused: list[bool],
) -> Build:
    """Return what the provenance records of this run."""
    from images.attest.provenance import Build
    from images.inputs.lock import base_lock, cuda_lock

    locks = [
        matrix.lock_path(one.target.lock_id),
        base_lock.PATH,
        cuda_lock.path_of(one.target.toolkit),
    ]
    locks += [matrix.debian_lock_path(one.target.flavour)] if one.added_debs else []
    return Build(
        ROOT,
        (matrix.path, *locks),
        {"target": one.target.id, "compression": options.compression},
        started,
        datetime.now(timezone.utc),
        reused.count(False),
        reused.count(True),
        os.environ,
        Counter(str(item.location) for item in made if item.location),
    )


def _caches(options: argparse.Namespace) -> tuple[CacheLookup | None, Location | None]:
    """Return the caches that a build reads, and the one that it fills.

    Without them no code for registries is loaded.
    """
    if not (options.cache_from or options.cache_to):
        return None, None
    if options.offline:
        raise UsageError(
            "--offline uses no network, and a shared cache is in a registry",
            remedy="leave out --offline, or --cache-from and --cache-to",
        )
    from images.build import layer_cache

    location = partial(layer_cache.location, plain_http=options.plain_http)
    given = [*options.cache_from, *([options.cache_to] if options.ray else [])]
    sources = list(dict.fromkeys(map(location, given)))
    target = location(options.cache_to) if options.cache_to else None
    lookup = layer_cache.read_all(sources, output.message) if sources else None
    return lookup, target


def _fill(
    store: Store, made: Sequence[BuiltLayer], cache_to: Location, progress: Progress
) -> Filled:
    from images.build import layer_cache
    from images.oci.registry.concurrency import TRANSFERS

    return layer_cache.fill(store, made, cache_to, jobs=TRANSFERS, progress=progress)
