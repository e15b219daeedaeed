"""What several commands need: the matrix, the targets and the store that options name."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from images.repository import ROOT
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.build.prepare import Inputs
    from images.inputs.matrix.matrix import Matrix, Target
    from images.oci.descriptor import Compression
    from images.oci.image import Image
    from images.oci.store.remote_layers import Location
    from images.oci.store.store import Store


def matrix_of(options: argparse.Namespace) -> Matrix:
    """The matrix that the options name, validated."""
    from images.inputs.matrix import matrix

    return matrix.load(options.matrix)


def chosen(options: argparse.Namespace) -> tuple[Matrix, list[Target]]:
    """The matrix, and the targets that the options name of it, each once."""
    matrix = matrix_of(options)
    if options.all:
        return matrix, list(matrix.targets)
    return matrix, [matrix.target(name) for name in dict.fromkeys(options.target)]


def bring_wheels(targets: Sequence[Target], options: argparse.Namespace) -> None:
    """Copy the targets' own wheels into the download cache, if the options say from where."""
    if options.wheels is not None:
        from images.inputs.fetch import custom_wheels

        custom_wheels.bring(targets, options.wheels, options.cache)


def store_if_there(options: argparse.Namespace) -> Store | None:
    """The store, unless there is none yet."""
    from images.oci.store import store

    there = (options.store / "oci-layout").is_file()
    return store.open_store(options.store, create=False) if there else None


def image_of(options: argparse.Namespace, source: Store, name: str) -> Image:
    """The image of the store with that name.

    Raises:
        UsageError: there is none; names the nearest where no target is called so either.
    """
    check_name(options, source, name)
    return source.load(name)


def images_of(options: argparse.Namespace, source: Store) -> list[Image]:
    """The images that the options name, each once. Only `--all` needs the matrix.

    Raises:
        UsageError: one is not built, or nothing is called so.
    """
    if getattr(options, "all", False):
        return source.load_several(target.id for target in matrix_of(options).targets)
    names = list(dict.fromkeys(options.target))
    for name in names:
        check_name(options, source, name)
    return source.load_several(names)


def check_name(options: argparse.Namespace, source: Store, name: str) -> None:
    """See that an image of the store or a target is called so.

    A target that is not built is for the store to tell: it says what builds it.
    """
    images = source.images()
    if name not in images:  # else the matrix need not be read
        targets = [target.id for target in matrix_of(options).targets]
        if name not in targets:
            from images.util import suggest

            raise suggest.no_image(name, targets, images)


def compare_files(matrix: Matrix, targets: Sequence[Target], cache: Path) -> None:
    """Compare the files of each target's distributions, as far as their wheels are in the cache.

    Raises:
        ConflictError: two of them bring files that cannot both be in an image.
        MatrixError: an entry of `conflicts:` settles nothing.
        IntegrityError: a file is not a wheel.
    """
    from images.build.conflicts import target_files
    from images.errors import ConflictError
    from images.inputs.lock import target_lock

    found: list[ConflictError] = []
    passed: set[object] = set()
    for target in targets:
        try:
            target_files.compare(target, target_lock.read(matrix, target), cache, passed)
        except ConflictError as error:
            found.append(error)
    if found:
        raise ConflictError("\n".join(error.message for error in found), remedy=found[0].remedy)


def inputs_of(
    matrix: Matrix, targets: Sequence[Target], compression: Compression = "zstd"
) -> list[Inputs]:
    """The locks of targets, all read and checked."""
    from images.build import prepare

    shared = prepare.Shared()
    return [prepare.inputs_of(matrix, target, compression, shared) for target in targets]


def fetch_command(options: argparse.Namespace) -> str:
    """The command that fetches what the builds of these options need."""
    from images.commands.options import default_cache

    command = ["python", "build.py", "fetch"]
    command += ["--all"] if options.all else []
    for target in dict.fromkeys(options.target):
        command += ["--target", target]
    if options.cache != default_cache():
        command += ["--cache", str(options.cache)]
    command += ["--plain-http"] if options.plain_http else []
    if options.matrix != ROOT / "matrix.yaml":
        command += ["--matrix", str(options.matrix)]
    return shlex.join(command)


def elsewhere_of(source: Store) -> dict[str, Location]:
    """Where layers lie whose bytes the store does not have, by digest."""
    return {
        digest: remote.location for digest, remote in source.remote_layers.missing_here().items()
    }


def completed(source: Store, image: Image, progress: Progress) -> None:
    """Fetch what an image has elsewhere, before its bytes are needed."""
    if source.remote_layers.missing_here():
        from images.oci.registry import backfill

        backfill.fetch(source, [layer.blob.digest for layer in image.layers], progress=progress)
