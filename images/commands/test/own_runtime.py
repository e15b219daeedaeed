"""Images with another `roll_runtime` than this checkout's, in which its tests would fail."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath

from images.build import titles
from images.content import runtime_wheel
from images.errors import UsageError
from images.oci.image import Image
from images.oci.layer import decompress
from images.oci.layer.tar_stream import TarStream
from images.oci.store.store import Store

_PACKAGE = "roll_runtime"


def require(images: Sequence[Image], store: Store) -> None:
    """Refuse images that were built before `roll_runtime` changed.

    Args:
        images: the images; without a layer of `roll_runtime` of its own, one is not looked at.
        store: where their layers are.

    Raises:
        UsageError: some have other sources.
        IntegrityError: a layer in the store is damaged.
    """
    here = runtime_wheel.modules()
    old = [image.ref for image in images if (_of_image(image, store) or here) != here]
    if old:
        raise UsageError(
            f"{', '.join(old)}: built with another roll_runtime than that of this checkout, whose "
            "tests would fail",
            remedy="; ".join(f"python build.py --target {name}" for name in old),
        )


def _of_image(image: Image, store: Store) -> dict[str, str]:
    """Return the same of an image as `runtime_wheel.modules` of the checkout."""
    found = {}
    for layer in image.own_layers:
        if layer.title == titles.RUNTIME.title:
            stream = TarStream(decompress.unpacked(store.blobs, layer.blob))
            for member in stream.members():
                path = PurePosixPath(member.name)
                if member.isreg() and path.parent.name == _PACKAGE and path.suffix == ".py":
                    content = b"".join(stream.content(member))
                    found[path.name] = hashlib.sha256(content).hexdigest()
    return found
