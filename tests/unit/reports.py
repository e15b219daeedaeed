"""An image to report on, and a registry that has layers of it."""

from __future__ import annotations

from pathlib import Path

from images.oci.descriptor import Blob
from images.oci.image import Image, Layer
from images.oci.reference import Repository
from images.oci.store.remote_layers import Location

LAYOUT = Path("/some where/store")
PLACE = Location(Repository("localhost:5000", "roll/cache"), plain_http=True)


def layer(title: str, size: int) -> Layer:
    return Layer(title, Blob(f"sha256:{size:064d}", f"sha256:{size + 1:064d}", size, 2 * size, "t"))


VALUE = Image(
    "one",
    (layer("base", 2_000_000), layer("top", 500)),
    {"A": "1"},
    {"roll.target": "one", "other": "x"},
    "2025-01-01T00:00:00Z",
)
