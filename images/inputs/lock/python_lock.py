"""The lock of the image's Python as the builder runs it: the digest of its extracted files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from images import format_numbers, image_paths
from images.errors import LockError
from images.inputs.lock import base_lock, sealed_text
from images.inputs.lock.deb import Deb
from images.repository import LOCKS
from images.util import sha256

PATH = LOCKS / "python-bookworm.txt"
RENEW = base_lock.RENEW

_PYTHON = f"python{image_paths.PYTHON}"
PROGRAM = f"{_PYTHON}-minimal"
"""The package that contains the program; its version is the interpreter's."""

PACKAGES = (
    PROGRAM,
    f"lib{_PYTHON}-minimal",  # what it needs to start
    f"lib{_PYTHON}-stdlib",  # the rest of the standard library
    "libc6",
    "libexpat1",
    "zlib1g",
    # What extension modules of the standard library are linked with.
    "libbz2-1.0",
    "libcrypt1",
    "libffi8",
    "liblzma5",
    "libsqlite3-0",
    "libssl3",
    "libuuid1",
)
_TREE = "tree sha256:"


def packages(debs: Sequence[Deb]) -> list[Deb]:
    """Return the packages of the base that the interpreter consists of.

    Raises:
        LockError: the base lacks one of them.
    """
    found = {deb.package: deb for deb in debs if deb.package in PACKAGES}
    if absent := [package for package in PACKAGES if package not in found]:
        raise LockError(
            f"the base has no {', '.join(absent)}, which its Python is made of",
            remedy=RENEW,
        )
    return [found[package] for package in PACKAGES]


def inputs_digest(debs: Sequence[Deb]) -> str:
    """Return the digest of the lock's inputs; hexadecimal SHA-256.

    Raises:
        LockError: the base lacks a package of the interpreter.
    """
    hashes = [deb.artifact.sha256 for deb in packages(debs)]
    return sha256.of_json({"format": format_numbers.INTERPRETER, "debs": hashes})


def text_of(debs: Sequence[Deb], tree: str) -> str:
    """Return the text of a lock.

    Args:
        debs: the locked packages of the base.
        tree: the digest of the files that were extracted from them.

    Raises:
        LockError: the base lacks a package of the interpreter.
    """
    return sealed_text.seal(inputs_digest(debs), [_TREE + tree])


def read(debs: Sequence[Deb], path: Path | None = None) -> str:
    """Return the digest that the extracted files must have.

    Args:
        debs: the locked packages of the base.
        path: the lock; `PATH` by default.

    Raises:
        LockError: the lock is missing, stale or edited by hand.
    """
    path = path or PATH
    sealed = sealed_text.read(path, remedy=RENEW)
    if sealed.inputs != inputs_digest(debs):
        raise LockError(f"{path}: lock is stale: the base changed since then", remedy=RENEW)
    return sealed.lines[0].removeprefix(_TREE) if sealed.lines else ""
