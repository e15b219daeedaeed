"""`list`, `inspect`, `plan`, `diff` and `sizes`: what there is, and what there would be."""

from __future__ import annotations

import argparse

from images.commands.selection import (
    chosen,
    compare_files,
    elsewhere_of,
    images_of,
    matrix_of,
    print_documents,
    print_json,
    store_if_there,
)
from images.util import output


def list_targets(options: argparse.Namespace) -> int:
    """List what can be built, and what has been."""
    from images.commands.report import targets as report_list
    from images.inputs.lock import target_lock

    matrix = matrix_of(options)
    here = store_if_there(options)
    built = here.images() if here else {}
    rows = [
        report_list.row(
            options.matrix,
            target,
            locked=target_lock.is_current(matrix, target),
            built=built.get(target.id),
        )
        for target in matrix.targets
    ]
    if options.json:
        print_json({"targets": rows})
    else:
        output.result(report_list.text(rows))
    return 0


def inspect(options: argparse.Namespace) -> int:
    """Show what an image in the store holds."""
    from images.commands.report import results as report
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    others: list[str] = []
    if options.target:
        images = images_of(options, source)
    else:
        images, others = source.load_every()
    elsewhere = elsewhere_of(source)
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


def plan(options: argparse.Namespace) -> int:
    """Show the layers that a build would make, and which of them the store has."""
    from images.analysis import summary
    from images.build import prepare
    from images.commands.report import analysis

    matrix, targets = chosen(options)
    here = store_if_there(options)
    shared = prepare.Shared(here)
    found = [summary.of_target(matrix, one, here, options.compression, shared) for one in targets]
    if options.json:
        documents = [analysis.plan_document(item) for item in found]
        print_documents(documents, "targets")
    else:
        output.result("\n\n".join(analysis.plan_text(item) for item in found))
    compare_files(matrix, targets, options.cache)
    return 0


def diff(options: argparse.Namespace) -> int:
    """Show what moving from one image to another costs: packages, and bytes to pull."""
    from images.analysis import compare, summary
    from images.commands.report import analysis

    matrix, here = matrix_of(options), store_if_there(options)
    old, new = (
        summary.find(name, matrix, here, options.compression) for name in (options.old, options.new)
    )
    found = compare.compare(old, new, here)
    if options.json:
        print_json(analysis.diff_document(found))
    else:
        output.result(analysis.diff_text(found))
    return 0


def sizes(options: argparse.Namespace) -> int:
    """Show how large the images are, and how much of them they share."""
    from images.analysis import sharing
    from images.commands.report import analysis

    found = sharing.measure(matrix_of(options), store_if_there(options))
    if options.json:
        print_json(analysis.sizes_document(found))
    else:
        output.result(analysis.sizes_text(found))
    return 0
