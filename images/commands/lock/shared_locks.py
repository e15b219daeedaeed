"""The list of locks that targets share: base, Python, compilers, Debian packages of flavours.

`images.inputs.resolve.shared_locks` makes most of them; the Python's needs `images.content`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from images.content.python import interpreter
from images.inputs.fetch import deb_files
from images.inputs.fetch.mirror import Mirror
from images.inputs.lock import base_lock, cuda_lock, extra_lock, python_lock
from images.inputs.matrix.records import Matrix
from images.inputs.resolve import shared_locks


class SharedLock(NamedTuple):
    """A lock that several targets share.

    Attributes:
        name: for messages.
        path: its file.
        make: resolves it and returns its text.
        read: reads and checks it; raises `LockError`.
    """

    name: str
    path: Path
    make: Callable[[Mirror], str]
    read: Callable[[], object]


def of_matrix(matrix: Matrix, cache: Path) -> list[SharedLock]:
    """Return the locks in the order in which they are made: later ones read that of the base."""

    def lock_python(where: Mirror) -> str:
        debs = python_lock.packages(base_lock.read())
        deb_files.download(debs, where, cache)
        return python_lock.text_of(debs, interpreter.fresh_digest(debs, cache))

    def lock_debian(packages: Sequence[str], where: Mirror) -> str:
        return shared_locks.of_packages(packages, base_lock.read(), where, cache)

    def read_debian(path: Path, packages: Sequence[str]) -> object:
        return extra_lock.read(path, packages, base_lock.read())

    compilers = [
        SharedLock(
            f"CUDA compiler {version}",
            cuda_lock.path_of(version),
            partial(shared_locks.of_compiler, version),
            partial(cuda_lock.read, version),
        )
        for version in matrix.toolkits
    ]
    flavours = [
        SharedLock(
            f"Debian packages of {flavour}",
            path := matrix.debian_lock_path(flavour),
            partial(lock_debian, packages),
            partial(read_debian, path, packages),
        )
        for flavour, packages in matrix.debian().items()
    ]
    python = SharedLock(
        "the image's Python",
        python_lock.PATH,
        lock_python,
        lambda: python_lock.read(base_lock.read()),
    )
    return [
        SharedLock("base", base_lock.PATH, shared_locks.of_base, base_lock.read),
        python,
        *compilers,
        *flavours,
    ]
