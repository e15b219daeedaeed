"""Our lowest layers for all: Debian and the CUDA compiler, as an image and as a store's seed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from benchmarks.rivals.dockerfile import BASE
from images.export.docker import daemon
from images.oci.image import Image
from images.oci.store.store import Store, open_store
from images.util.progress import Progress

_LAYERS = 2
_REF = "base"


def seed(source: Store, target: str, place: Path) -> Store:
    """Return a store that has these layers alone, by hard links."""
    made = open_store(place)
    digests = {layer.blob.digest for layer in source.load(target).layers[:_LAYERS]}
    for digest in digests:
        if not made.blobs.path(digest).exists():
            made.blobs.path(digest).hardlink_to(source.blobs.path(digest))
    for path in (source.path / ".roll" / "layers").iterdir():
        blob = source.layer_keys.known(path.name)
        if blob and blob.digest in digests:
            shutil.copy(path, made.path / ".roll" / "layers")
    return made


def image(source: Store, target: str, place: Path) -> tuple[Store, Image]:
    """Return the image of these layers in a store of its own: `oci:PLACE:base` for skopeo."""
    made = seed(source, target, place)
    whole = source.load(target)
    alone = Image(_REF, whole.layers[:_LAYERS], {}, {}, whole.created)
    made.save(alone)
    return made, alone


def load(source: Store, target: str, place: Path, host: str) -> None:
    """Load the image into a Docker daemon, in the form that the daemon accepts."""
    store, alone = image(source, target, place)
    os.environ["DOCKER_HOST"] = host  # all other clients name their daemon themselves
    daemon.load(store, alone, [BASE], progress=Progress())
