"""The locks that targets share: base, Python, compilers, and Debian packages of flavours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from images.content.cuda import toolkit
from images.content.debian import extra_packages, rootfs
from images.content.python import interpreter
from images.inputs.lock import deb
from images.inputs.lock.mirror import Mirror
from images.inputs.matrix.matrix import Matrix


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
        debs = interpreter.needed(rootfs.locked())
        deb.download(debs, where, cache, jobs=6, advance=lambda _: None, renew=rootfs.RENEW)
        return interpreter.lock(debs, cache)

    def lock_debian(packages: Sequence[str], where: Mirror) -> str:
        return extra_packages.lock(packages, rootfs.locked(), where, cache)

    def read_debian(path: Path, packages: Sequence[str]) -> object:
        return extra_packages.locked(path, packages, rootfs.locked())

    compilers = [
        SharedLock(
            f"CUDA compiler {version}",
            toolkit.lock_path(version),
            partial(toolkit.lock, version),
            partial(toolkit.locked, version),
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
        interpreter.LOCK,
        lock_python,
        lambda: interpreter.locked(rootfs.locked()),
    )
    return [
        SharedLock("base", rootfs.LOCK, rootfs.lock, rootfs.locked),
        python,
        *compilers,
        *flavours,
    ]
