"""`list`, `inspect`, `plan`, `diff` and `sizes`: what there is, and what there would be."""

from __future__ import annotations

import argparse

from images import output
from images.commands.common import (
    chosen,
    compare_files,
    elsewhere_of,
    images_of,
    matrix_of,
    print_documents,
    print_json,
    store_if_there,
)


def list_targets(options: argparse.Namespace) -> int:
    """List what can be built, and what has been."""
    from images import lock, report_list

    matrix = matrix_of(options)
    here = store_if_there(options)
    built = here.images() if here else {}
    rows = [
        report_list.row(
            options.matrix,
            target,
            locked=lock.is_current(matrix, target),
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
    from images import report, store

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
    from images import foundation, outline, report_outline

    matrix, targets = chosen(options)
    here = store_if_there(options)
    shared = foundation.Shared(here)
    found = [outline.of_target(matrix, one, here, options.compression, shared) for one in targets]
    if options.json:
        documents = [report_outline.plan_document(item) for item in found]
        print_documents(documents, "targets")
    else:
        output.result("\n\n".join(report_outline.plan_text(item) for item in found))
    compare_files(matrix, targets, options.cache)
    return 0


def diff(options: argparse.Namespace) -> int:
    """Show what moving from one image to another costs: packages, and bytes to pull."""
    from images import compare, outline, report_outline

    matrix, here = matrix_of(options), store_if_there(options)
    old, new = (
        outline.find(name, matrix, here, options.compression) for name in (options.old, options.new)
    )
    found = compare.compare(old, new, here)
    if options.json:
        print_json(report_outline.diff_document(found))
    else:
        output.result(report_outline.diff_text(found))
    return 0


def sizes(options: argparse.Namespace) -> int:
    """Show how large the images are, and how much of them they share."""
    from images import report_outline, sharing

    found = sharing.measure(matrix_of(options), store_if_there(options))
    if options.json:
        print_json(report_outline.sizes_document(found))
    else:
        output.result(report_outline.sizes_text(found))
    return 0
