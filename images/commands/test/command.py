"""`test`: run the tests of an image in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from images.commands.arguments import Command, Parser, choice, one_of
from images.commands.options import add_targets
from images.commands.selection import chosen, fetch_missing_layers
from images.errors import UsageError
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.inputs.matrix.records import Matrix, Target

_BACKENDS = ("docker", "rootfs")


def _add_test_options(parser: Parser) -> None:
    add_targets(parser)
    add = parser.add_argument
    add(
        "--backend",
        type=choice(_BACKENDS),
        metavar=one_of(_BACKENDS),
        help="a container, or an unpacked root file system (default: docker if it is available)",
    )
    add(
        "--rootfs",
        type=Path,
        metavar="DIR",
        help="a root file system that holds the unpacked image: the store then needs no layers",
    )
    add(
        "--gpu",
        action="store_true",
        help="only the tests that need a GPU; they fail without one, and their outcome is kept as "
        "evidence",
    )
    add(
        "--roll",
        type=Path,
        metavar="CHECKOUT",
        help="only the code of this checkout of ROLL, in an image of a -roll target: its inference "
        "worker, and a whole job; with --gpu on a GPU, else what runs on the CPU",
    )
    add(
        "--evidence",
        type=Path,
        metavar="FILE",
        help="file for the evidence (default: evidence/TARGET.json beside the matrix)",
    )
    add("pytest", nargs="*", help="options for pytest, after --")


def test(options: argparse.Namespace) -> int:
    """Run the tests of built images: tests/image and tests/gpu, or ROLL's own code."""
    from images.commands.test import roll_checkout, suites
    from images.oci.store import store

    suites.check_installed()
    matrix, targets = chosen(options)
    if len(targets) > 1 and (options.rootfs or options.evidence):
        raise UsageError(
            "--rootfs and --evidence belong to one image, and several are named",
            remedy="name one --target",
        )
    if options.rootfs and not (options.rootfs / "usr").is_dir():
        raise UsageError(
            f"{options.rootfs}: no root file system",
            remedy="name the directory that `unpack.py --rootfs DIR` wrote, or leave --rootfs out",
        )
    if options.rootfs and options.backend == "docker":
        raise UsageError(
            "--backend docker does not take --rootfs",
            remedy="leave one of them out",
        )
    if options.roll:
        roll_checkout.read(options.roll)
        for target in targets:
            _need_ray(matrix, target)
    how = suites.RunOptions(
        options.backend,
        options.rootfs,
        options.gpu,
        options.evidence,
        tuple(options.pytest),
        options.roll,
    )
    source = store.open_store(options.store, create=False)
    for target in targets:
        image = source.load(target.id)  # one error if it is absent, not one for each test
        if not options.rootfs:
            fetch_missing_layers(source, image, Progress())
    for target in targets:
        suites.run(target.id, store=options.store, matrix=options.matrix, how=how)
    return 0


TEST = Command("test", test, _add_test_options)


def _need_ray(matrix: Matrix, target: Target) -> None:
    """Refuse a target that ROLL cannot run in.

    Raises:
        UsageError: its lock has no Ray.
    """
    from images.inputs.lock import target_lock

    if any(item.name == "ray" for item in target_lock.read(matrix, target).distributions):
        return
    flavours = [other.id for other in matrix.targets if other.id == f"{target.lock_id}-roll"]
    raise UsageError(
        f"{target.id}: ROLL needs Ray, which its lock does not have",
        remedy=f"name {flavours[0] if flavours else 'a target whose id ends in -roll'} instead",
    )
