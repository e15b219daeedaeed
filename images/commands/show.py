"""`list`, `inspect`, `sbom` and `provenance`: targets, images, and documents about images."""

from __future__ import annotations

import argparse
from pathlib import Path

from images.commands.arguments import Command, Parser
from images.commands.options import add_json, add_optional_targets
from images.commands.report.printing import print_json
from images.commands.selection import (
    existing_store,
    image_of,
    images_of,
    matrix_of,
    remote_locations,
)
from images.util import output


def list_targets(options: argparse.Namespace) -> int:
    """List the targets: which are locked, built, and proven on a GPU."""
    from images.commands.report import targets as report_list

    matrix = matrix_of(options)
    here = existing_store(options)
    built = here.images() if here else {}
    rows = report_list.rows(matrix, matrix.targets, built)
    if options.json:
        print_json({"targets": rows})
    else:
        output.result(report_list.text(rows))
    return 0


LIST = Command("list", list_targets, add_json)


def _add_inspect_options(parser: Parser) -> None:
    add_optional_targets(parser)
    add_json(parser)


def inspect(options: argparse.Namespace) -> int:
    """Show what an image in the store contains."""
    from images.commands.report import images as report
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    others: list[str] = []
    if options.target:
        images = images_of(options, source)
    else:
        images, others = source.load_all()
    elsewhere = remote_locations(source)
    if options.json:
        documents = [
            report.image_document(image, source.path, elsewhere=elsewhere) for image in images
        ]
        several = {"images": documents, "others": others}
        print_json(documents[0] if len(options.target) == 1 else several)
    else:
        attached = source.all_attached(image.manifest_digest for image in images)
        texts = [
            report.inspection(image, source.path, elsewhere, attached[image.manifest_digest])
            for image in images
        ]
        texts += [report.put_by_others(others)] if others else []
        output.result("\n\n".join(texts))
    return 0


INSPECT = Command("inspect", inspect, _add_inspect_options)


def _add_document_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--target", required=True, metavar="ID", help="the image")
    add("--out", type=Path, metavar="FILE", help="output file (default: standard output)")


def sbom(options: argparse.Namespace) -> int:
    """Write an image's bill of materials (CycloneDX)."""
    from images.attest import attach

    return _write_document(options, attach.SBOM)


def provenance(options: argparse.Namespace) -> int:
    """Write how an image was made (SLSA provenance, not signed)."""
    from images.attest import attach

    return _write_document(options, attach.PROVENANCE)


def _write_document(options: argparse.Namespace, artifact_type: str) -> int:
    from images.attest import attach
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    content = attach.find(source, image_of(options, source, options.target), artifact_type)
    output.content(content, options.out)
    return 0


SBOM = Command("sbom", sbom, _add_document_options)
PROVENANCE = Command("provenance", provenance, _add_document_options)
