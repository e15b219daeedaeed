"""`list`, `inspect`, `plan`, `diff` and `sizes`: what there is, and what there would be."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from images.commands.common import (
    chosen,
    compare_files,
    elsewhere_of,
    image_of,
    matrix_of,
    print_documents,
    print_json,
    store_if_there,
)
from images.errors import EvidenceError


def list_targets(options: argparse.Namespace) -> int:
    """List what can be built, and what has been."""
    from images import lock, report

    matrix = matrix_of(options)
    here = store_if_there(options)
    built = here.images() if here else {}
    rows = [
        {
            "target": target.id,
            "sglang": target.sglang,
            "torch": target.torch,
            "cuda": target.cuda,
            "locked": lock.is_current(matrix, target),
            "built": built.get(target.id),
            **_proof(options.matrix, target.id, built.get(target.id)),
        }
        for target in matrix.targets
    ]
    if options.json:
        print_json({"targets": rows})
        return 0
    head = ("TARGET", "SGLANG", "TORCH", "CUDA", "LOCK", "IN THE STORE", "PROVEN")
    print(report.table([head, *(_list_row(row) for row in rows)]))
    return 0


def _list_row(row: dict[str, Any]) -> tuple[str, ...]:
    built = row["built"][:19] if row["built"] else "no"
    locked = "yes" if row["locked"] else "stale or missing"
    versions = (row["sglang"], row["torch"], row["cuda"])
    return (row["target"], *versions, locked, built, row["evidence"])


def _proof(matrix: Path, target: str, built: str | None) -> dict[str, Any]:
    """Whether the image in the store is proven on a GPU, the words for it, and ROLL's commit."""
    from images import evidence

    try:
        found = evidence.judge(evidence.read(evidence.path_of(matrix, target)), target, built)
    except EvidenceError:
        return {"proven": False, "evidence": "no (the evidence cannot be read)", "roll": None}
    roll = found.roll and {
        "commit": found.roll.commit,
        "dirty": found.roll.dirty,
        "date": found.roll.date,
        "tests": dict(Counter(test.outcome for test in found.roll.tests.values())),
    }
    return {"proven": found.proven, "evidence": found.text, "roll": roll}


def inspect(options: argparse.Namespace) -> int:
    """Show what an image in the store holds."""
    from images import report, store

    source = store.open_store(options.store, create=False)
    wanted = options.target or sorted(source.images())
    images = [image_of(options, source, name) for name in wanted]
    elsewhere = elsewhere_of(source)
    if options.json:
        documents = [
            report.image_document(image, source.path, elsewhere=elsewhere) for image in images
        ]
        print_json(documents[0] if len(options.target) == 1 else {"images": documents})
    else:
        texts = [
            report.inspection(image, source.path, elsewhere, source.attached(image.manifest_digest))
            for image in images
        ]
        print("\n\n".join(texts))
    return 0


def plan(options: argparse.Namespace) -> int:
    """Show the layers that a build would make, and which of them the store has."""
    from images import outline, report_outline

    matrix, targets = chosen(options)
    here = store_if_there(options)
    found = [outline.of_target(matrix, one, here, options.compression) for one in targets]
    if options.json:
        documents = [report_outline.plan_document(item) for item in found]
        print_documents(documents, "targets")
    else:
        print("\n\n".join(report_outline.plan_text(item) for item in found))
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
        print(report_outline.diff_text(found))
    return 0


def sizes(options: argparse.Namespace) -> int:
    """Show how large the images are, and how much of them they share."""
    from images import report_outline, sharing

    found = sharing.measure(matrix_of(options), store_if_there(options))
    if options.json:
        print_json(report_outline.sizes_document(found))
    else:
        print(report_outline.sizes_text(found))
    return 0
