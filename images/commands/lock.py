"""`lock` makes and checks the locks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from images.commands.selection import bring_wheels, compare_files, matrix_of
from images.errors import LockError
from images.util import atomic_file, output

if TYPE_CHECKING:
    from images.inputs.fetch.mirror import Mirror
    from images.inputs.matrix.records import Matrix, Target


def lock_targets(options: argparse.Namespace) -> int:
    """Make the locks, or check that they are those of the sources."""
    from images.inputs.fetch import mirror
    from images.inputs.resolve import target_locks

    matrix = matrix_of(options)
    named = bool(options.target)
    chosen = {matrix.target(name).id for name in options.target}
    # In the order of the file: a flavour's lock is made from that of its engine.
    targets = [one for one in matrix.targets if one.id in chosen or not named]
    if options.check:
        return _check_locks(matrix, targets, options.cache)
    if not options.base_only:
        bring_wheels(targets, options)
        for target in targets:
            changed = target_locks.write(matrix, target, options.cache)
            output.result(f"{matrix.lock_path(target.id)}: {'locked' if changed else 'unchanged'}")
        compare_files(matrix, targets, options.cache)
    if options.base_only or not named:
        where = mirror.find(options.debian_mirror)
        for shared in _shared_locks(matrix, options.cache):
            if not options.base_only and _reads(shared.read):
                output.result(
                    f"{shared.path}: up to date ({shared.name}; newest packages: lock --base)"
                )
                continue
            atomic_file.write_text(shared.path, shared.make(where))
            output.result(f"{shared.path}: locked")
    return 0


class _SharedLock(NamedTuple):
    """A lock of what several targets have in common."""

    name: str
    path: Path
    make: Callable[[Mirror], str]
    read: Callable[[], object]


def _shared_locks(matrix: Matrix, cache: Path) -> list[_SharedLock]:
    """In the order in which they are made: those of flavours stand on that of the base."""
    from images.content.python import interpreter
    from images.inputs.fetch import deb_files
    from images.inputs.lock import base_lock, cuda_lock, extra_lock, python_lock
    from images.inputs.resolve import shared_locks

    def lock_python(where: Mirror) -> str:
        debs = python_lock.packages(base_lock.read())
        deb_files.download(debs, where, cache)
        return python_lock.text_of(debs, interpreter.fresh_digest(debs, cache))

    def lock_debian(packages: Sequence[str], where: Mirror) -> str:
        return shared_locks.of_packages(packages, base_lock.read(), where, cache)

    def read_debian(path: Path, packages: Sequence[str]) -> object:
        return extra_lock.read(path, packages, base_lock.read())

    compilers = [
        _SharedLock(
            f"CUDA compiler {version}",
            cuda_lock.path_of(version),
            partial(shared_locks.of_compiler, version),
            partial(cuda_lock.read, version),
        )
        for version in matrix.toolkits
    ]
    flavours = [
        _SharedLock(
            f"Debian packages of {flavour}",
            path := matrix.debian_lock_path(flavour),
            partial(lock_debian, packages),
            partial(read_debian, path, packages),
        )
        for flavour, packages in matrix.debian().items()
    ]
    python = _SharedLock(
        "the image's Python",
        python_lock.PATH,
        lock_python,
        lambda: python_lock.read(base_lock.read()),
    )
    return [
        _SharedLock("base", base_lock.PATH, shared_locks.of_base, base_lock.read),
        python,
        *compilers,
        *flavours,
    ]


def _check_locks(matrix: Matrix, targets: Sequence[Target], cache: Path) -> int:
    from images.inputs.lock import target_lock

    faults: list[LockError] = []
    checks = [shared.read for shared in _shared_locks(matrix, cache)]
    checks += [partial(target_lock.read, matrix, target) for target in targets]
    for check in checks:
        try:
            check()
        except LockError as error:
            faults.append(error)
    if faults:
        # That of an engine comes again from its flavour, whose remedy locks both.
        remedies = {fault.message: fault.remedy for fault in faults}
        raise LockError(
            "\n".join(remedies), remedy=" && ".join(dict.fromkeys(filter(None, remedies.values())))
        )
    compare_files(matrix, targets, cache)
    output.result(f"{len(checks)} locks are those of their inputs")
    return 0


def _reads(read: Callable[[], object]) -> bool:
    try:
        read()
    except LockError:
        return False
    return True
