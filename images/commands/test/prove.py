"""`prove`: prove images on a machine with a GPU that has neither a registry nor a network."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from images.commands.arguments import Command, Parser
from images.commands.options import add_jobs, add_parts
from images.commands.selection import check_name, fetch_missing_layers, matrix_of
from images.errors import EvidenceError, UsageError
from images.util import output
from images.util.progress import Progress, size

if TYPE_CHECKING:
    from images.export.bundle.bundle import WrittenBundle
    from images.inputs.matrix.records import Matrix, Target
    from images.oci.image import Image
    from images.oci.store.store import Store


def _add_prove_options(parser: Parser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="ID",
        help="a target; repeatable. A bundle leaves out the layers of those before it",
    )
    which.add_argument(
        "--all", action="store_true", help="every target whose image is built and not proven"
    )
    which.add_argument(
        "--take",
        type=Path,
        metavar="DIR",
        help="copy evidence of images of the store that came back to `evidence` beside the matrix, "
        "unless a test failed",
    )
    add = parser.add_argument
    add("--out", type=Path, metavar="DIR", help="output directory: the kit")
    add_parts(parser)
    add(
        "--wheels",
        type=Path,
        metavar="DIR",
        help="wheels that the tests need and the machine's Python lacks, such as pytest-testinfra",
    )
    add_jobs(parser, "layers to compare at a time")


def prove(options: argparse.Namespace) -> int:
    """Write images with their GPU tests as a kit for a machine with a GPU, or take its evidence."""
    from images.oci.store import store

    source = store.open_store(options.store, create=False)
    matrix = matrix_of(options)
    if options.take is not None:
        return _take(options, matrix, source)
    if options.out is None:
        raise UsageError(
            "no output directory is named",
            remedy="add --out DIR; where this machine has the GPU: python build.py test --gpu",
        )
    return _write(options, matrix, source)


PROVE = Command("prove", prove, _add_prove_options)


def _write(options: argparse.Namespace, matrix: Matrix, source: Store) -> int:
    from images.commands.test import own_runtime
    from images.export.kit import kit

    images = _images(options, matrix, source)
    progress = Progress()
    for _, image in images:
        fetch_missing_layers(source, image, progress)
    own_runtime.require([image for _, image in images], source)
    how = kit.KitOptions(options.out, options.part_size, options.have, options.wheels, options.jobs)
    with progress.stage("bundle", sum(image.size for _, image in images)) as meter:
        written = kit.write(matrix, images, source, how, meter.advance)
    output.result(_summary(options.out, written))
    return 0


def _images(
    options: argparse.Namespace, matrix: Matrix, source: Store
) -> list[tuple[Target, Image]]:
    """Return the targets to prove, with their images; of `--all` those that are not proven."""
    if options.all:
        built = source.images()
        targets = [one for one in matrix.targets if _unproven(options, one, built.get(one.id))]
        if not targets:
            raise UsageError(
                "every image of the store is proven", remedy="name one with --target to repeat it"
            )
    else:
        names = list(dict.fromkeys(options.target))
        for name in names:
            check_name(options, source, name)
        targets = [matrix.target(name) for name in names]
    return list(zip(targets, source.load_several(target.id for target in targets), strict=True))


def _unproven(options: argparse.Namespace, target: Target, built: str | None) -> bool:
    """Return whether the store has a target's image and there is no proof of it."""
    from images.attest import evidence, evidence_check

    if built is None:
        output.message(f"{target.id}: left out, it is not built")
        return False
    try:
        found = evidence.read(evidence.path_of(options.matrix, target.id))
    except EvidenceError:
        return True
    judged = evidence_check.judge(found, target.id, built, target.exclude_newer)
    if judged.proven:
        output.message(f"{target.id}: left out, it is proven on {judged.text}")
    return not judged.proven


def _summary(out: Path, written: Sequence[WrittenBundle]) -> str:
    from images.commands.report.printing import table

    rows = [("TARGET", "DIGEST", "SENT", "LEFT OUT")]
    rows += [
        (one.bundle.ref, one.bundle.manifest_digest[:19], size(one.bytes), size(one.left_out))
        for one in written
    ]
    return (
        f"{table(rows)}\nsend {out} to a machine with a GPU, small files and earlier bundles "
        "first, and run there as root:\n  python3 prove.py --seconds LIMIT\n"
        "send its directory `evidence` back, and run here:\n  python build.py prove --take DIR"
    )


def _take(options: argparse.Namespace, matrix: Matrix, source: Store) -> int:
    from images.attest import evidence, returned
    from images.commands.report import targets as report

    files = _arrived(options.take)
    built = source.images()
    taken, refused = [], []
    for arrived in files:
        try:
            target = matrix.target(arrived.stem)
            path = evidence.path_of(options.matrix, target.id)
            returned.take(arrived, path, target.id, built.get(target.id), target.exclude_newer)
            taken.append(target)
        except (EvidenceError, UsageError) as error:
            refused.append(error)
    if taken:
        output.result(report.text(report.rows(matrix, taken, built)))
    if refused:
        raise EvidenceError(
            "\n".join([f"{len(refused)} of {len(files)} files were refused, and nothing was lost:",
                       *(f"  {error.message}" for error in refused)]),
            remedy="\n     ".join(dict.fromkeys(error.remedy for error in refused if error.remedy)),
        )  # fmt: skip
    return 0


def _arrived(directory: Path) -> list[Path]:
    """Return the evidence in a directory, or in a kit.

    Raises:
        UsageError: there is none.
    """
    inner = directory / "evidence"
    files = sorted((inner if inner.is_dir() else directory).glob("*.json"))
    if not files:
        raise UsageError(
            f"{directory}: no evidence is there",
            remedy="name the directory `evidence` that prove.py wrote",
        )
    return files
