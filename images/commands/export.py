"""`load` and `bundle`: images for Docker, and for machines without a registry."""

from __future__ import annotations

import argparse
from pathlib import Path

from images.commands.arguments import Command, Parser
from images.commands.options import add_jobs, add_json, add_parts, add_targets
from images.commands.report.printing import print_documents, print_json
from images.commands.selection import check_name, fetch_missing_layers, image_of, images_of
from images.util import output
from images.util.progress import Progress


def _add_load_options(parser: Parser) -> None:
    add_targets(parser)
    add = parser.add_argument
    add("--tag", action="append", help="name in Docker (default: roll-sglang:TARGET); repeatable")
    add_json(parser)


def load(options: argparse.Namespace) -> int:
    """Load images into the Docker daemon."""
    from images.export.docker import daemon
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    documents = []
    for image in images_of(options, source):
        tags = options.tag or [f"roll-sglang:{image.ref}"]
        progress = Progress()
        fetch_missing_layers(source, image, progress)
        loaded = daemon.load(source, image, tags, progress=progress)
        documents.append({"target": image.ref, "tags": tags, "id": loaded.id})
        output.message(f"{', '.join(tags)}: {loaded.describe()}")
    if options.json:
        print_documents(documents)
    return 0


LOAD = Command("load", load, _add_load_options)


def _add_bundle_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--target", required=True, metavar="ID", help="the image")
    add("--out", required=True, type=Path, metavar="DIR", help="output directory")
    add_parts(parser)
    add(
        "--since",
        metavar="TARGET|DIGEST",
        help="leave out the layers of this image of the store, whose bundle the destination has",
    )
    add_jobs(parser, "layers to compare at a time")
    add_json(parser)


def bundle(options: argparse.Namespace) -> int:
    """Write an image as part files with an unpacker, for a machine without a registry."""
    from images.commands.report import transfers
    from images.export.bundle import bundle, delta, planning
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    image = image_of(options, source, options.target)
    if options.since and not options.since.startswith("sha256:"):
        check_name(options, source, options.since)
    layers = source.layers_of(options.since) if options.since else ()
    inventory = delta.read_inventories(options.have, layers)
    progress = Progress()
    fetch_missing_layers(source, image, progress)
    if inventory.sizes:
        with progress.stage("compare", image.size) as meter:
            plan = planning.plan(source, image, inventory, options.jobs, meter.advance)
    else:
        plan = planning.plan(source, image, inventory)
    with progress.stage("bundle", image.size) as meter:
        written = bundle.write(plan, options.out, options.part_size, meter.advance)
    output.message(transfers.bundle_summary(written))
    if options.json:
        print_json(transfers.bundle_document(written))
    return 0


BUNDLE = Command("bundle", bundle, _add_bundle_options)
