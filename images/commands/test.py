"""`test` runs the tests of an image in it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from images.commands.selection import chosen, completed
from images.errors import UsageError
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.inputs.matrix.records import Matrix, Target


def test(options: argparse.Namespace) -> int:
    """Run the tests of built images: tests/image and tests/gpu, or ROLL's own code."""
    from images.commands import image_tests, roll_checkout
    from images.oci.store import store

    image_tests.check_installed()
    matrix, targets = chosen(options)
    if len(targets) > 1 and (options.rootfs or options.evidence):
        raise UsageError(
            "--rootfs and --evidence are of one image, and several are named",
            remedy="name one --target",
        )
    if options.rootfs and not (options.rootfs / "usr").is_dir():
        raise UsageError(
            f"{options.rootfs}: no root file system there",
            remedy="name the directory that `unpack.py --rootfs DIR` wrote, or leave --rootfs out",
        )
    if options.rootfs and options.backend == "docker":
        raise UsageError(
            "--rootfs is a root file system, and --backend docker takes none",
            remedy="leave one of them out",
        )
    if options.roll:
        roll_checkout.read(options.roll)
        for target in targets:
            _need_ray(matrix, target)
    how = image_tests.How(
        options.backend,
        options.rootfs,
        options.gpu,
        options.evidence,
        tuple(options.pytest),
        options.roll,
    )
    source = store.open_store(options.store, create=False)
    for target in targets:
        image = source.load(target.id)  # one error if it is not there, not one for each test
        if not options.rootfs:
            completed(source, image, Progress())
    for target in targets:
        image_tests.run(target.id, store=options.store, matrix=options.matrix, how=how)
    return 0


def _need_ray(matrix: Matrix, target: Target) -> None:
    """Refuse a target that ROLL cannot run in.

    Raises:
        UsageError: its lock has no Ray.
    """
    from images.inputs.lock import target_lock

    if any(item.name == "ray" for item in target_lock.read(matrix, target).distributions):
        return
    flavours = [other.id for other in matrix.targets if other.id == f"{target.id}-roll"]
    raise UsageError(
        f"{target.id}: ROLL cannot run in it: its lock has no Ray",
        remedy=f"name {flavours[0] if flavours else 'a target whose id ends in -roll'} instead",
    )
