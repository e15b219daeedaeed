"""Unpacks an image of the store into a directory, for tests where there is no Docker.

The layers are written by `images.unbundle.destinations`, as on the machine that a bundle is
unpacked on.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from images.errors import IntegrityError, StoreError, UsageError
from images.oci.image import Image
from images.oci.layer.decompress import unpacked
from images.oci.layer.read_ahead import ahead
from images.oci.store.store import Store
from images.unbundle.destinations.base_layers import Changes
from images.unbundle.destinations.layer_tree import Tree
from images.util.progress import Progress


def unpack(
    store: Store, image: Image, destination: Path, progress: Progress, *, setuid: bool = False
) -> None:
    """Write the files of all layers into a directory.

    As root, owners are kept; otherwise all files belong to the user.

    Args:
        store: where the layers are.
        image: the image.
        destination: an empty directory, or one to make.
        progress: shows the compressed bytes.
        setuid: whether set-uid and set-gid bits are kept: see
            `images.unbundle.destinations.member_files.Manner`.

    Raises:
        UsageError: the destination is not an empty directory.
        IntegrityError: a layer is damaged, would write outside of the destination, or has members
            that only layers of a custom base may have.
        StoreError: the file system of the destination is full or read-only.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UsageError(f"{destination}: not an empty directory", remedy="name another one")
    try:
        destination.mkdir(parents=True, exist_ok=True)
        with progress.stage("unpack", image.size) as meter:
            tree = Tree(destination, setuid=setuid)
            changes = Changes(destination, setuid=setuid)
            below = len(image.layers) - len(image.own_layers)
            for number, layer in enumerate(image.layers):
                with closing(ahead(unpacked(store.blobs, layer.blob))) as pieces:
                    try:
                        if number < below:
                            changes.apply(pieces)
                        else:
                            tree.apply(number, pieces)
                    except IntegrityError as error:
                        said = f"layer {layer.blob.digest}: {error.message}"
                        raise IntegrityError(said, remedy=error.remedy) from error
                if number == below - 1:
                    tree.restore(number, changes.whole())
                meter.advance(layer.blob.size)
            tree.finish()
    except OSError as error:
        raise StoreError(
            f"{destination}: cannot be written: {error.strerror}",
            remedy="make room there, or choose another disk with TMPDIR",
        ) from error
