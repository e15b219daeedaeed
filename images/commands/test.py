"""`test` runs the tests of an image in it."""

from __future__ import annotations

import argparse

from images.commands.common import chosen, completed
from images.errors import UsageError
from images.progress import Progress


def test(options: argparse.Namespace) -> int:
    """Run the tests of built images: tests/image and tests/gpu."""
    from images import store, testing

    _, targets = chosen(options)
    if len(targets) > 1 and (options.rootfs or options.evidence):
        raise UsageError("--rootfs and --evidence are of one image: name one --target")
    if options.rootfs and not (options.rootfs / "usr").is_dir():
        raise UsageError(f"{options.rootfs}: no root file system there")
    if options.rootfs and options.backend == "docker":
        raise UsageError("--rootfs is a root file system, and --backend docker takes none")
    how = testing.How(
        options.backend, options.rootfs, options.gpu, options.evidence, tuple(options.pytest)
    )
    source = store.open_store(options.store, create=False)
    for target in targets:
        image = source.load(target.id)  # one error if it is not there, not one for each test
        if not options.rootfs:
            completed(source, image, Progress())
    for target in targets:
        testing.run(target.id, store=options.store, matrix=options.matrix, how=how)
    return 0
