"""The matrix, the targets, the images and the store that options name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from images.util.progress import Progress

if TYPE_CHECKING:
    from images.build.prepare import Inputs
    from images.inputs.matrix.records import Matrix, Target
    from images.oci.descriptor import Compression
    from images.oci.image import Image
    from images.oci.store.remote_layers import Location
    from images.oci.store.store import Store


def matrix_of(options: argparse.Namespace) -> Matrix:
    """Return the validated matrix that the options name."""
    from images.inputs.matrix.load import load

    return load(options.matrix)


def chosen(options: argparse.Namespace) -> tuple[Matrix, list[Target]]:
    """Return the matrix, and the targets that the options name, each once.

    Raises:
        UsageError: there is no such target, or it cannot be narrowed to the GPUs of `--gpu`.
    """
    from images.inputs.matrix import gpus

    matrix = matrix_of(options)
    if options.all:
        targets = list(matrix.targets)
    else:
        targets = [matrix.target(name) for name in dict.fromkeys(options.target)]
    if only := getattr(options, "only_gpus", None):
        return matrix, [target.narrowed(gpus.in_order(only)) for target in targets]
    return matrix, targets


def copy_wheels(targets: Sequence[Target], options: argparse.Namespace) -> None:
    """Copy the `wheels:` of targets into the download cache from the directory of `--wheels`."""
    if options.wheels is not None:
        from images.inputs.fetch import custom_wheels

        custom_wheels.add(targets, options.wheels, options.cache)


def existing_store(options: argparse.Namespace) -> Store | None:
    """Return the store, or None if it does not exist yet."""
    from images.oci.store import store

    there = (options.store / "oci-layout").is_file()
    return store.open_store(options.store, create=False) if there else None


def image_of(options: argparse.Namespace, source: Store, name: str) -> Image:
    """Return the image of the store with that name.

    Raises:
        UsageError: the store has no such image; suggests a name if no target is called so either.
    """
    check_name(options, source, name)
    return source.load(name)


def images_of(options: argparse.Namespace, source: Store) -> list[Image]:
    """Return the images that the options name, each once. Only `--all` needs the matrix.

    Raises:
        UsageError: one is not built, or neither an image nor a target is called so.
    """
    if getattr(options, "all", False):
        return source.load_several(target.id for target in matrix_of(options).targets)
    names = list(dict.fromkeys(options.target))
    for name in names:
        check_name(options, source, name)
    return source.load_several(names)


def check_name(options: argparse.Namespace, source: Store, name: str) -> None:
    """Check that an image of the store or a target is called so.

    A target that is not built is reported by the store, with the command that builds it.

    Raises:
        UsageError: neither is; suggests the nearest name.
    """
    images = source.images()
    if name not in images:  # else the matrix need not be read
        matrix = matrix_of(options)
        if matrix.find(name) is None:
            from images.util import suggest

            raise suggest.no_image(name, [target.id for target in matrix.targets], images)


def compare_files(matrix: Matrix, targets: Sequence[Target], cache: Path) -> None:
    """Compare the files of each target's distributions whose wheels are in the cache.

    Raises:
        ConflictError: two of them contain files that cannot both be in an image.
        MatrixError: an entry of `conflicts:` settles no conflict.
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
    """Read and check the locks of targets."""
    from images.build import prepare

    shared = prepare.Shared()
    return [prepare.inputs_of(matrix, target, compression, shared) for target in targets]


def remote_locations(source: Store) -> dict[str, Location]:
    """Return where the layers are whose bytes the store does not have, by digest."""
    return {
        digest: remote.location for digest, remote in source.remote_layers.missing_here().items()
    }


def fetch_missing_layers(source: Store, image: Image, progress: Progress) -> None:
    """Fetch those layers of an image that the store knows and does not have."""
    if source.remote_layers.missing_here():
        from images.oci.registry import backfill

        backfill.fetch(source, [layer.blob.digest for layer in image.layers], progress=progress)
