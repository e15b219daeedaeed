"""`lock`: make and check the locks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from images.commands.arguments import Command, Parser
from images.commands.options import add_cache, add_mirror, add_optional_targets
from images.commands.selection import compare_files, copy_wheels, matrix_of
from images.errors import LockError
from images.util import atomic_file, output

if TYPE_CHECKING:
    from images.inputs.matrix.records import Matrix, Target


def _add_lock_options(parser: Parser) -> None:
    add_optional_targets(parser)
    add = parser.add_argument
    add("--check", action="store_true", help="change nothing; fail if a lock is missing or stale")
    add(
        "--base",
        action="store_true",
        dest="base_only",
        help="only what targets share: the newest packages of base, compilers and flavours",
    )
    add_cache(parser)
    add_mirror(parser)


def lock_targets(options: argparse.Namespace) -> int:
    """Make the locks, or check that they match their inputs."""
    from images.commands.lock import shared_locks
    from images.inputs.fetch import mirror
    from images.inputs.resolve import target_locks

    matrix = matrix_of(options)
    named = bool(options.target)
    chosen = {matrix.target(name).lock_id for name in options.target}
    # In the order of the matrix: a flavour's lock is made from that of its engine.
    targets = [one for one in matrix.targets if one.id in chosen or not named]
    if options.check:
        return _check_locks(matrix, targets, options.cache)
    if not options.base_only:
        copy_wheels(targets, options)
        for target in targets:
            changed = target_locks.write(matrix, target, options.cache)
            output.result(
                f"{matrix.lock_path(target.lock_id)}: {'locked' if changed else 'unchanged'}"
            )
        compare_files(matrix, targets, options.cache)
        _report_downloads(matrix, targets)
    if options.base_only or not named:
        where = mirror.find(options.debian_mirror)
        for shared in shared_locks.of_matrix(matrix, options.cache):
            if not options.base_only and _reads(shared.read):
                output.result(
                    f"{shared.path}: up to date ({shared.name}; newest packages: lock --base)"
                )
                continue
            atomic_file.write_text(shared.path, shared.make(where))
            output.result(f"{shared.path}: locked")
    return 0


LOCK = Command("lock", lock_targets, _add_lock_options)


def _check_locks(matrix: Matrix, targets: Sequence[Target], cache: Path) -> int:
    from images.commands.lock import shared_locks
    from images.inputs.lock import target_lock

    faults: list[LockError] = []
    checks = [shared.read for shared in shared_locks.of_matrix(matrix, cache)]
    checks += [partial(target_lock.read, matrix, target) for target in targets]
    for check in checks:
        try:
            check()
        except LockError as error:
            faults.append(error)
    if faults:
        # An engine's fault is reported again for its flavour, whose remedy locks both.
        remedies = {fault.message: fault.remedy for fault in faults}
        raise LockError(
            "\n".join(remedies), remedy=" && ".join(dict.fromkeys(filter(None, remedies.values())))
        )
    compare_files(matrix, targets, cache)
    _report_downloads(matrix, targets)
    output.result(f"{len(checks)} locks match their inputs")
    return 0


def _report_downloads(matrix: Matrix, targets: Sequence[Target]) -> None:
    """Print which targets would download kernels at run time."""
    from images.analysis import run_time_downloads
    from images.inputs.lock import target_lock

    for target in targets:
        locked = target_lock.read(matrix, target).distributions
        if line := run_time_downloads.message(target, locked):
            output.result(line)


def _reads(read: Callable[[], object]) -> bool:
    try:
        read()
    except LockError:
        return False
    return True
