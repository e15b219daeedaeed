"""`push`, `promote` and `pull`: images and layers in registries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from images.commands.arguments import Command, Parser
from images.commands.options import add_jobs, add_json, add_plain_http, add_targets
from images.commands.report.printing import print_documents, print_json, print_summary
from images.commands.selection import images_of, matrix_of
from images.errors import UsageError
from images.oci.registry.concurrency import TRANSFERS
from images.util import output
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.export.push.push import PushOptions
    from images.export.push.reuse import MountSources
    from images.oci.referrer import Referrer


def _add_push_options(parser: Parser) -> None:
    add_targets(parser)
    add = parser.add_argument
    add(
        "--to",
        required=True,
        metavar="REGISTRY/REPO[:TAG]",
        help="destination; the default tag is the target's id",
    )
    add(
        "--mount-from",
        action="append",
        default=[],
        metavar="REPO",
        help="a repository of that registry to mount blobs from; repeatable. Those to which this "
        "store was pushed before are tried as well",
    )
    add(
        "--no-mount",
        action="store_false",
        dest="mount",
        help="mount blobs only from repositories that --mount-from names",
    )
    add("--never-move", action="store_true", help="fail if the tag names another image")
    add(
        "--attest",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="fail, before the image is tagged, if the registry refuses its SBOM and provenance or "
        "does not list them (by default that is a warning); --no-attest pushes the image alone",
    )
    add_jobs(parser, "uploads at a time", TRANSFERS)
    add_plain_http(parser)
    add_json(parser)


def push(options: argparse.Namespace) -> int:
    """Push images to a registry, without Docker."""
    from images.commands.report import transfers
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
            remedy="leave out the tag: each image is tagged with its target's id",
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
                    _push_options_of(
                        options, source.attached(image.manifest_digest), mount_sources
                    ),
                    progress=progress,
                )
            for line in pushed.notes:
                output.message(f"warning: {line}")
            documents.append(transfers.push_document(pushed))
            summary = transfers.push_summary(pushed, progress.seconds)
            print_summary(options, summary)
    if options.json:
        print_documents(documents)
    return 0


def _push_options_of(
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


PUSH = Command("push", push, _add_push_options)


def _add_promote_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--target", required=True, metavar="ID", help="the image's target")
    add(
        "--digest",
        metavar="sha256:…",
        help="of the image's manifest (default: the one that evidence/ID.json proves)",
    )
    add(
        "--to",
        required=True,
        metavar="REGISTRY/REPO[:TAG]",
        help="the image's repository, and the tag to move (default: the target's id)",
    )
    add(
        "--evidence",
        type=Path,
        metavar="FILE",
        help="the proof (default: evidence/ID.json beside the matrix)",
    )
    add(
        "--unproven",
        action="store_true",
        help="move the tag even if the image is not proven on a GPU",
    )
    add_plain_http(parser)
    add_json(parser)


def promote(options: argparse.Namespace) -> int:
    """Move a tag in a registry to an image that is proven on a GPU."""
    from images.attest import evidence
    from images.commands.report import transfers
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
        print_json(transfers.promote_document(done))
    else:
        output.result(transfers.promote_summary(done))
    return 0


PROMOTE = Command("promote", promote, _add_promote_options)


def _add_pull_options(parser: Parser) -> None:
    add_targets(parser)
    add_jobs(parser, "layers at a time", TRANSFERS)
    add_json(parser)


def pull(options: argparse.Namespace) -> int:
    """Fetch the layers of built images that are only in a shared cache."""
    from images.commands.report import transfers
    from images.oci.registry import backfill
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    documents = []
    for image in images_of(options, source):
        layers = [layer.blob.digest for layer in image.layers]
        fetched = backfill.fetch(source, layers, progress=Progress(), jobs=options.jobs)
        documents.append(transfers.pull_document(image, source.path, fetched))
        summary = transfers.pull_summary(image, source.path, fetched)
        print_summary(options, summary)
    if options.json:
        print_documents(documents)
    return 0


PULL = Command("pull", pull, _add_pull_options)
