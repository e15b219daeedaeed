"""`build` makes images; `fetch` brings what that needs."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from images.commands.selection import (
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
from images.util import output
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.attest.provenance import Build
    from images.build.builder import BuiltLayer, CacheLookup
    from images.build.conflicts.comparison import Comparison
    from images.build.layer_cache import Filled
    from images.build.prepare import Inputs, Prepared
    from images.inputs.build_options import BuildOptions
    from images.inputs.matrix.matrix import Matrix
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
    from images.commands.report import proof, results

    matrix, targets = chosen(options)
    bring_wheels(targets, options)
    # Every lock is read before anything is made: a stale one must not surface after an hour.
    inputs = inputs_of(matrix, targets, options.compression)
    build_options = _build_options(options)
    caches = _caches(options)
    documents = []
    with build_options.store.building():
        # And every custom base is checked against its target, for the same reason.
        prepared = [_prepared(one, build_options) for one in inputs]
        for one in prepared:
            progress = Progress()
            with progress.timed("total"):
                built = _build(one, matrix, build_options, caches, progress)
            path, elsewhere = build_options.store.path, elsewhere_of(build_options.store)
            documents.append(results.image_document(built.image, path, built.reused, elsewhere))
            summary = results.build_summary(
                built.image, built.reused, progress.seconds, path, elsewhere, built.filled
            )
            proven = proof.line(matrix.path, one.target, built.image.manifest_digest)
            print_summary(options, f"{summary}\n  {proven}")
    if options.json:
        print_documents(documents)
    return 0


def _build_options(options: argparse.Namespace) -> BuildOptions:
    from images.inputs.build_options import BuildOptions
    from images.oci.store import store

    return BuildOptions(
        **_shared_options(options, offline=options.offline),
        store=store.open_store(options.store),
        compression=options.compression,
        only_known=options.only_known,
    )


def _shared_options(options: argparse.Namespace, *, offline: bool) -> dict[str, Any]:
    """Return the values of `FetchOptions`."""
    return {
        "cache": options.cache,
        "matrix": options.matrix.absolute(),
        "jobs": options.jobs,
        "mirror": options.debian_mirror,
        "plain_http": options.plain_http,
        "offline": fetch_command(options) if offline else "",
    }


def _prepared(inputs: Inputs, options: BuildOptions) -> Prepared:
    """Make a target's base ready, and report what it lacks of the target's flavour."""
    from images.build import prepare
    from images.commands.report import results

    found = prepare.ready(inputs, options, Progress(), options.store)
    if found.base.lacking_debs:
        output.message(results.lacking_debs(inputs.target, found.base.lacking_debs))
    return found


def _build(
    one: Prepared,
    matrix: Matrix,
    options: BuildOptions,
    caches: tuple[CacheLookup | None, Place | None],
    progress: Progress,
) -> _Built:
    """Make one target's image, name it, and put beside it what is said about it."""
    from images.analysis import budget
    from images.attest import attach
    from images.build import assemble, builder, prepare
    from images.build.conflicts import target_files
    from images.inputs.lock import sealed_text

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
        sealed_text.digest_of_file(matrix.lock_path(one.target.id)),
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
            f"{target}: {len(absent)} distributions are in layers that lie in a registry alone: "
            "whether they bring other files than the others at the same paths was not looked at"
        )


def _run(
    one: Inputs,
    matrix: Matrix,
    options: BuildOptions,
    started: datetime,
    made: Sequence[BuiltLayer],
    reused: list[bool],
) -> Build:
    """This run, for the provenance."""
    from images.attest.provenance import Build
    from images.content.cuda import toolkit
    from images.content.debian import rootfs

    locks = [matrix.lock_path(one.target.id), rootfs.LOCK, toolkit.lock_path(one.target.toolkit)]
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
        Counter(str(item.place) for item in made if item.place),
    )


def fetch(options: argparse.Namespace) -> int:
    """Bring all that builds need into the download cache: they then need no network."""
    from images.build import prefetch, prepare
    from images.commands.report import results
    from images.inputs.build_options import FetchOptions

    looking = options.check or options.paths_only
    matrix, targets = chosen(options)
    if not looking:
        bring_wheels(targets, options)
    fetch_options = FetchOptions(**_shared_options(options, offline=looking))
    wanted = {
        one.target.id: prepare.ready(
            one, fetch_options, Progress(), fetch=not looking, verify=not looking
        ).needed
        for one in inputs_of(matrix, targets)
    }
    if options.paths_only:
        files = dict.fromkeys(file for needs in wanted.values() for file in needs.artifacts)
        output.result("\n".join(f"{file.sha256}/{file.filename}" for file in files))
        return 0
    outcomes = {}
    for target, needs in wanted.items():
        if options.check:
            outcomes[target] = prefetch.check(needs, fetch_options, Progress())
        else:
            outcomes[target] = prefetch.fetch(needs, fetch_options, Progress())
    summary = f"{results.fetch_summary(outcomes)}\n{options.cache}"
    print_summary(options, summary)
    if options.json:
        documents = [results.fetch_document(*item) for item in outcomes.items()]
        print_documents(documents, "targets")
    if error := prefetch.failure(outcomes, fetch_command(options)):
        raise error
    compare_files(matrix, targets, options.cache)
    return 0


def _caches(options: argparse.Namespace) -> tuple[CacheLookup | None, Place | None]:
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
    lookup = layer_cache.read_all(sources, output.message) if sources else None
    return lookup, target


def _fill(store: Store, made: Sequence[BuiltLayer], cache_to: Place, progress: Progress) -> Filled:
    from images.build import layer_cache
    from images.commands.options import UPLOADS

    return layer_cache.fill(store, made, cache_to, jobs=UPLOADS, progress=progress)
