"""`load`, `bundle`, `push`, `promote` and `pull`: images on their way to where they run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from images.commands.selection import (
    check_name,
    completed,
    image_of,
    images_of,
    matrix_of,
    print_documents,
    print_json,
    print_summary,
)
from images.errors import UsageError
from images.util import output
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.export.push.push import PushOptions
    from images.export.push.reuse import MountSources
    from images.oci.referrer import Referrer


def load(options: argparse.Namespace) -> int:
    """Give images to the Docker daemon."""
    from images.export.docker import daemon
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    documents = []
    for image in images_of(options, source):
        tags = options.tag or [f"roll-sglang:{image.ref}"]
        progress = Progress()
        completed(source, image, progress)
        loaded = daemon.load(source, image, tags, progress=progress)
        documents.append({"target": image.ref, "tags": tags, "id": loaded.id})
        output.message(f"{', '.join(tags)}: {loaded.describe()}")
    if options.json:
        print_documents(documents)
    return 0


def bundle(options: argparse.Namespace) -> int:
    """Write an image as part files with their own unpacker, for a machine without a registry."""
    from images.commands.report import results as report
    from images.export.bundle import bundle, delta
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    image = image_of(options, source, options.target)
    if options.since and not options.since.startswith("sha256:"):
        check_name(options, source, options.since)
    layers = source.layers_of(options.since) if options.since else ()
    known = delta.held(options.have, layers)
    progress = Progress()
    completed(source, image, progress)
    if known.sizes:
        with progress.stage("compare", image.size) as meter:
            plans = bundle.plan(source, image, known, options.jobs, meter.advance)
    else:
        plans = bundle.plan(source, image, known)
    with progress.stage("bundle", image.size) as meter:
        made = bundle.write(
            source, image, options.out, options.part_size, known, plans, meter.advance
        )
    output.message(report.bundle_summary(made))
    if options.json:
        print_json(report.bundle_document(made))
    return 0


def push(options: argparse.Namespace) -> int:
    """Push images to a registry, without Docker."""
    from images.commands.report import results as report
    from images.export.push import push, reuse
    from images.oci import reference
    from images.oci.registry import client
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    images = images_of(options, source)
    repository, tag = reference.parse(options.to)
    if tag and len(images) > 1:
        raise UsageError(
            f"{options.to}: one tag for {len(images)} images",
            remedy="leave the tag out: each image gets its target's id as its tag",
        )
    named = [
        reference.repository_name(name, repository.registry, plain_http=options.plain_http)
        for name in options.mount_from
    ]
    mount_sources = reuse.MountSources(named, known=options.mount)
    documents = []
    with (
        source.building(),
        client.Registry(repository, plain_http=options.plain_http) as connected,
    ):
        for image in images:
            progress = Progress()
            with progress.timed("total"):
                pushed = push.push(
                    source,
                    image,
                    connected,
                    tag or image.ref,
                    _push_options(options, source.attached(image.manifest_digest), mount_sources),
                    progress=progress,
                )
            for line in pushed.notes:
                output.message(f"warning: {line}")
            documents.append(report.push_document(pushed))
            summary = report.push_summary(pushed, progress.seconds)
            print_summary(options, summary)
    if options.json:
        print_documents(documents)
    return 0


def _push_options(
    options: argparse.Namespace, referrers: Sequence[Referrer], mount_sources: MountSources
) -> PushOptions:
    from images.export.push.push import PushOptions

    return PushOptions(
        referrers=() if options.attest is False else referrers,
        attested=bool(options.attest),
        mount_sources=mount_sources,
        never_move=options.never_move,
        jobs=options.jobs,
    )


def promote(options: argparse.Namespace) -> int:
    """Move a tag in a registry to an image that a GPU has proven."""
    from images.attest import evidence
    from images.commands.report import results as report
    from images.export import promote
    from images.oci import reference
    from images.oci.registry import client

    target = matrix_of(options).target(options.target)
    repository, tag = reference.parse(options.to)
    kept = options.evidence or evidence.path_of(options.matrix, target.id)
    chosen = promote.candidate(target, options.digest, kept, unproven=options.unproven)
    with client.Registry(repository, plain_http=options.plain_http) as connected:
        done = promote.promote(chosen, connected, tag or target.id)
    if options.json:
        print_json(report.promote_document(done))
    else:
        output.result(report.promote_summary(done))
    return 0


def pull(options: argparse.Namespace) -> int:
    """Fetch the layers of built images that lie in a shared cache."""
    from images.commands.report import results as report
    from images.oci.registry import backfill
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    documents = []
    for image in images_of(options, source):
        layers = [layer.blob.digest for layer in image.layers]
        fetched = backfill.fetch(source, layers, progress=Progress(), jobs=options.jobs)
        documents.append(report.pull_document(image, source.path, fetched))
        summary = report.pull_summary(image, source.path, fetched)
        print_summary(options, summary)
    if options.json:
        print_documents(documents)
    return 0
