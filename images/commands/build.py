"""`build` makes images; `fetch` brings what that needs."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from images.commands.selection import (
    base_place,
    bring_wheels,
    chosen,
    compare_files,
    elsewhere_of,
    fetch_command,
    inputs_of,
    print_documents,
    print_summary,
)
from images.errors import UsageError
from images.repository import ROOT
from images.util import output, sha256
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.attest.provenance import Build
    from images.build.builder import Look, Made, Settings
    from images.build.conflicts.comparison import Comparison
    from images.build.layer_cache import Filled
    from images.build.prepare import Inputs
    from images.content.custom_base.source import Place as BasePlace
    from images.inputs.matrix.records import Matrix
    from images.oci.image import Image
    from images.oci.store.remote_layers import Place
    from images.oci.store.store import Store


@dataclass(frozen=True)
class _Built:
    """What a build of one target came to."""

    image: Image
    reused: list[bool]
    filled: Filled | None


def build(options: argparse.Namespace) -> int:
    """Build images into the store."""
    from images.build import builder
    from images.commands.report import proof, results
    from images.oci.store import store

    matrix, targets = chosen(options)
    bring_wheels(targets, options)
    # Every lock is read before anything is made: a stale one must not surface after an hour.
    inputs = inputs_of(matrix, targets, options.compression)
    settings = builder.Settings(
        store.open_store(options.store),
        options.cache,
        options.compression,
        options.jobs,
        options.debian_mirror,
        fetch_command(options) if options.offline else "",
        options.only_known,
    )
    caches = _caches(options)
    documents = []
    with settings.store.building():
        # And every own base is held against its target, for the same reason.
        place = base_place(options, settings.store, offline=options.offline)
        for one in inputs:
            if one.target.base:
                _hold(one, place, settings.store)
        for one in inputs:
            progress = Progress()
            with progress.timed("total"):
                built = _build(one, matrix, place, settings, caches, progress)
            path, elsewhere = settings.store.path, elsewhere_of(settings.store)
            documents.append(results.image_document(built.image, path, built.reused, elsewhere))
            summary = results.build_summary(
                built.image, built.reused, progress.seconds, path, elsewhere, built.filled
            )
            proven = proof.line(matrix.path, one.target, built.image.manifest_digest)
            print_summary(options, f"{summary}\n  {proven}")
    if options.json:
        print_documents(documents)
    return 0


def _hold(one: Inputs, place: BasePlace, store: Store) -> None:
    """Hold an own base against its target, and report what it lacks of the target's flavour."""
    from images.build import prepare
    from images.commands.report import results
    from images.content.custom_base import fit

    ground, _ = prepare.ready(one, place, store, Progress())
    if ground and (names := fit.lacking_debs(one.target, ground.facts)):
        output.message(results.lacking_debs(one.target, names))


def _build(
    one: Inputs,
    matrix: Matrix,
    place: BasePlace,
    settings: Settings,
    caches: tuple[Look | None, Place | None],
    progress: Progress,
) -> _Built:
    """Make one target's image, name it, and put beside it what is said about it."""
    from images.analysis import budget
    from images.attest import attach
    from images.build import assemble, builder, prepare
    from images.build.conflicts import target_files

    started = datetime.now(timezone.utc)
    look, cache_to = caches
    ground, recipes = prepare.ready(one, place, settings.store, progress)
    compare = target_files.pending(one.target, one.lock, recipes, settings.store)
    ours = builder.make(recipes, one.debs, settings, progress, look, compare)
    if compare is not None:
        _note(compare, one.target.id, settings.store)
    made = [*(prepare.put(ground, settings) if ground else ()), *ours]
    image = assemble.assemble(
        one.target,
        sha256.of_file(matrix.lock_path(one.target.id)),
        [item.layer for item in made],
        ground.image if ground else None,
    )
    budget.check(one.target, image, settings.store)
    settings.store.save(image)
    reused = [item.reused for item in made]
    run = _run(one, matrix, settings, started, ours, reused)
    attach.complete(settings.store, image, one.materials(ground), run)
    return _Built(image, reused, _fill(settings, ours, cache_to, progress) if cache_to else None)


def _note(compare: Comparison, target: str, store: Store) -> None:
    compare.note(store)
    if absent := compare.absent:
        output.message(
            f"{target}: {len(absent)} distributions are in layers that lie in a registry alone: "
            "whether they bring other files than the others at the same paths was not looked at"
        )


def _run(
    one: Inputs,
    matrix: Matrix,
    settings: Settings,
    started: datetime,
    made: Sequence[Made],
    reused: list[bool],
) -> Build:
    """This run, for the provenance."""
    from images.attest.provenance import Build
    from images.inputs.lock import base_lock, cuda_lock

    locks = [matrix.lock_path(one.target.id), base_lock.PATH, cuda_lock.path_of(one.target.toolkit)]
    locks += [matrix.debian_lock_path(one.target.flavour)] if one.added_debs else []
    return Build(
        ROOT,
        (matrix.path, *locks),
        {"target": one.target.id, "compression": settings.compression},
        started,
        datetime.now(timezone.utc),
        reused.count(False),
        reused.count(True),
        os.environ,
        Counter(str(item.place) for item in made if item.place),
    )


def fetch(options: argparse.Namespace) -> int:
    """Bring all that builds need into the download cache: they then need no network."""
    from images.build import prefetch, prepare
    from images.commands.report import results

    looking = options.check or options.paths_only
    matrix, targets = chosen(options)
    if not looking:
        bring_wheels(targets, options)
    place = base_place(options, offline=looking)
    wanted = {
        one.target.id: prepare.wanted(one, place, Progress(), bring=not looking)
        for one in inputs_of(matrix, targets)
    }
    if options.paths_only:
        files = dict.fromkeys(file for needs in wanted.values() for file in needs.artifacts)
        output.result("\n".join(f"{file.sha256}/{file.filename}" for file in files))
        return 0
    outcomes = {}
    for target, needs in wanted.items():
        if options.check:
            outcomes[target] = prefetch.look(needs, options.cache, options.jobs, Progress())
        else:
            outcomes[target] = prefetch.fill(
                needs, options.cache, options.debian_mirror, options.jobs, Progress()
            )
    summary = f"{results.fetch_summary(outcomes)}\n{options.cache}"
    print_summary(options, summary)
    if options.json:
        documents = [results.fetch_document(*item) for item in outcomes.items()]
        print_documents(documents, "targets")
    if error := prefetch.failure(outcomes, fetch_command(options)):
        raise error
    compare_files(matrix, targets, options.cache)
    return 0


def _caches(options: argparse.Namespace) -> tuple[Look | None, Place | None]:
    """The caches that a build reads, and the one that it fills.

    Without them no code for registries is loaded.
    """
    if not (options.cache_from or options.cache_to):
        return None, None
    if options.offline:
        raise UsageError(
            "--offline touches no network, and a shared cache lies in a registry",
            remedy="leave out --offline, or --cache-from and --cache-to",
        )
    from images.build import layer_cache

    place = partial(layer_cache.place, plain_http=options.plain_http)
    sources = list(dict.fromkeys(map(place, options.cache_from)))
    target = place(options.cache_to) if options.cache_to else None
    look = layer_cache.read_all(sources, output.message) if sources else None
    return look, target


def _fill(settings: Settings, made: Sequence[Made], cache_to: Place, progress: Progress) -> Filled:
    from images.build import layer_cache
    from images.commands.options import UPLOADS

    return layer_cache.fill(settings.store, made, cache_to, jobs=UPLOADS, progress=progress)
