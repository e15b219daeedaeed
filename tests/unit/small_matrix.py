"""Small matrices with their locks, and images of them in a store: real layers, little in them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images import image_paths
from images.analysis import summary
from images.analysis.summary import ImageSummary, LayerSummary
from images.build import assemble
from images.inputs.lock import base_lock, distribution, sealed_text, target_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Matrix
from images.oci.descriptor import Compression
from images.oci.image import Image, Layer
from images.oci.layer import writer
from images.oci.layer.entry import Entry, of_bytes
from images.oci.store import store
from images.oci.store.store import Store
from images.util import atomic_file, sha256

_HEAD = """\
platform: nvidia-cuda
python: "3.11"
base: {suite: bookworm}
toolkit: {"12": "12.4"}
locks: locks
defaults:
  requirements: ["sglang=={sglang}"]
targets:
"""
_VERSIONS = {"052": "0.5.2", "054": "0.5.4.post2", "055": "0.5.5.post3"}
_ROW = """\
  - id: torch280-sglang{short}
    sglang: {version}
    torch: 2.8.0
    cuda: "12.8"
    exclude_newer: {{date: 2025-09-16, why: a test}}
"""
_SCALE = 1000
"""Bytes of a wheel for each byte of content that its layer gets here."""


def wheel(name: str, size: int, version: str = "1.0") -> Distribution:
    """A locked wheel; another version is another file."""
    sha256 = hashlib.sha256(f"{name} {version} {size}".encode()).hexdigest()
    return Distribution(name, version, Artifact(f"{name}-{version}.whl", sha256, size))


A, B = "torch280-sglang052", "torch280-sglang055"
TORCH, KERNEL = wheel("torch", 900_000_000, "2.8.0"), wheel("sgl-kernel", 300_000_000)
SMALL = wheel("attrs", 60_000)


@dataclass(frozen=True)
class SmallMatrix:
    """A matrix of torch280 targets with their locks, and a store."""

    place: Path

    @property
    def matrix(self) -> Matrix:
        return load(self.place / "matrix.yaml")

    @property
    def store(self) -> Store:
        return store.open_store(self.place / "store")

    def write(
        self, locked: Mapping[str, Sequence[Distribution]], budgets: Mapping[str, str] | None = None
    ) -> Matrix:
        """Targets by the digits of their SGLang version, with their locks and perhaps budgets."""
        rows = []
        for short in locked:
            rows.append(_ROW.format(short=short, version=_VERSIONS[short]))
            if size := (budgets or {}).get(short):
                rows.append(f"    budget: {{size: {size}, why: the disk is small}}\n")
        (self.place / "matrix.yaml").write_text(_HEAD + "".join(rows))
        for short, items in locked.items():
            target = self.matrix.target(f"torch280-sglang{short}")
            lines = [distribution.line_of(item) for item in sorted(items)]
            text = sealed_text.seal(target_lock.inputs_of(target), lines)
            atomic_file.write_text(self.matrix.lock_path(target.id), text)
        return self.matrix

    def find(self, name: str) -> ImageSummary:
        return summary.find(name, self.matrix, self.store, "zstd")

    def build(self, short: str, compression: Compression = "zstd") -> Image:
        """Make the layers that the store lacks, and save the image, whatever its budget is."""
        target = self.matrix.target(f"torch280-sglang{short}")
        layers = []
        for layer in summary.of_target(self.matrix, target, self.store, compression).layers:
            blob = layer.blob
            if blob is None:
                with self.store.blobs.new_file() as (out, commit):
                    blob = writer.write(_entries(layer), out, compression)
                    commit(blob.digest)
                self.store.layer_keys.remember(layer.key, blob)
            layers.append(Layer(layer.title, blob))
        digest = sha256.of_file(self.matrix.lock_path(target.id))
        image = assemble.assemble(target, digest, layers)
        self.store.save(image)
        return image


def two_targets(place: Path) -> SmallMatrix:
    """Targets A and B, of which the second has a newer kernel and another small distribution."""
    work = SmallMatrix(place)
    kernel = wheel("sgl-kernel", 360_000_000, "2.0")
    work.write(
        {
            "052": [TORCH, KERNEL, wheel("pyarrow", 46_000_000), SMALL, wheel("idna", 70_000)],
            "055": [TORCH, kernel, wheel("pyarrow", 46_000_000), SMALL, wheel("lark", 5_000)],
        }
    )
    return work


def _entries(layer: LayerSummary) -> list[Entry]:
    """What the packages of a layer leave in an image, and noise by the size of their files."""
    packages = layer.packages or ()
    if packages and packages[0].kind == "debian":
        stanzas = [
            f"Package: {item.name}\nStatus: install ok installed\nVersion: {item.version}\n"
            for item in packages
        ]
        return [of_bytes("var/lib/dpkg/status", "\n".join(stanzas).encode())]
    found = []
    for item in packages:
        name = f"{item.name.replace('-', '_').capitalize()}-{item.version}"
        metadata = f"{image_paths.SITE_PACKAGES}/{name}.dist-info/METADATA"
        found.append(of_bytes(metadata, f"Version: {item.version}\n".encode()))
    noise = random.Random(layer.key).randbytes(layer.weight // _SCALE if layer.files else 100)
    return [*found, of_bytes(f"opt/noise/{layer.title.replace('/', '_')}", noise)]


def debs() -> int:
    """Return the number of packages of the locked base."""
    return len(base_lock.read())
