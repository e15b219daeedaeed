"""A small image and the locks that it could have been made from."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from pathlib import Path

from images.attest.materials import Materials
from images.attest.provenance import Build
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.oci.descriptor import Blob
from images.oci.image import Image, Layer
from images.oci.store.store import Store

BEGUN = datetime(2026, 11, 24, 8, 0, 0, tzinfo=timezone.utc)
DONE = datetime(2026, 11, 24, 8, 2, 9, tzinfo=timezone.utc)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def wheel(name: str, version: str = "1.0", *, file: str = "") -> Distribution:
    file = file or f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return Distribution(name, version, Artifact(file, sha256(file), 1000))


def deb(
    package: str,
    version: str = "1.0-1",
    *,
    place: str = "main",
    source: str = "",
    arch: str = "amd64",
) -> Deb:
    file = f"{package}_{version.rpartition(':')[2]}_{arch}.deb"
    source = source or package
    path = f"pool/{place}/{source[0]}/{source}/{file}"
    return Deb(package, version, "debian", path, Artifact(file, sha256(file), 1000))


RUNTIME = wheel("nvidia-cuda-runtime", "13.0.96")
SDIST = wheel("demo-sdist", file="demo_sdist-1.0.tar.gz")

MATERIALS = Materials(
    Lock(
        (wheel("torch", "2.8.0"), RUNTIME, SDIST),
        (wheel("setuptools", "80.9.0"),),
        frozenset({"torch", "demo-sdist", "nvidia-cuda-runtime"}),
    ),
    [
        deb("bash"),
        deb("libgcc-s1", "12.2.0-14", source="gcc-12"),
        deb("gcc", "4:12.2.0-3", source="gcc-defaults"),
        deb("libbz2-1.0", "1.0.8-5+b1", source="bzip2"),
        deb("python3.11", "3.11.2-6+deb12u9", place="updates/main"),
        deb("adduser", arch="all"),
    ],
    Toolkit("13.0", (deb("nvidia-cuda-toolkit", "12.4~1"),), (wheel("nvidia-nvvm"), RUNTIME)),
)


def image_in(store: Store, *, content: bytes = b"a layer", ref: str = "one") -> Image:
    """An image of one layer, in the store."""
    digest = store.blobs.put(content)
    layer = Layer("all", Blob(digest, digest, len(content), len(content), "application/t"))
    image = Image(ref, (layer,), {}, {}, "2025-09-20T00:00:00Z")
    store.save(image)
    return image


def build_of(root: Path, **env: str) -> Build:
    """A run of the builder from a checkout at `root`, which holds one lock."""
    lock = root / "images" / "locks" / "one.txt"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("a lock\n")
    parameters = {"target": "one", "compression": "zstd"}
    return Build(root, (lock,), parameters, BEGUN, DONE, 1, 70, env)
