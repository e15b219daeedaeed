"""A cold build from a warm download cache, held against the sum of its floors.

    python benchmarks/cold.py --target torch280-sglang052

The floors are the work that no builder of this image can leave out: bootstrapping the base
(wall seconds), inflating every wheel, and one pass of hashing and compressing every layer. The two
latter are CPU seconds over the number of cores, as if they filled all cores without a gap.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import zstandard

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from images import base, fetch, layer, lock, matrix  # noqa: E402
from images.image import Layer  # noqa: E402
from images.lock import Distribution  # noqa: E402
from images.store import Store, open_store  # noqa: E402

T = TypeVar("T")
CORES = os.cpu_count() or 1
CHUNK = 1 << 20


def bootstrap(cache: Path) -> float:
    """Wall seconds of putting the base together."""
    with TemporaryDirectory() as work:
        begin = time.perf_counter()
        base.build(base.locked(), cache, Path(work))
        return time.perf_counter() - begin


def inflate(item: Distribution, cache: Path) -> float:
    """CPU seconds of inflating a wheel."""
    begin = time.thread_time()
    if item.is_wheel:
        with zipfile.ZipFile(fetch.cached(item.artifact, cache)) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    while stream.read(CHUNK):
                        pass
    return time.thread_time() - begin


def compress(item: Layer, store: Store) -> float:
    """CPU seconds of hashing a tar, compressing it and hashing what comes out."""
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    tar_hash, blob_hash = hashlib.sha256(), hashlib.sha256()
    spent = 0.0
    with store.blob_path(item.blob.digest).open("rb") as blob:
        for piece in zstandard.ZstdDecompressor().read_to_iter(blob, write_size=CHUNK):
            begin = time.thread_time()
            tar_hash.update(piece)
            blob_hash.update(compressor.compress(piece))
            spent += time.thread_time() - begin
    begin = time.thread_time()
    blob_hash.update(compressor.flush())
    return spent + time.thread_time() - begin


def spread(work: Callable[[T], float], items: Iterable[T]) -> float:
    """The sum of what `work` gives, over the cores."""
    with ThreadPoolExecutor(CORES) as pool:
        return sum(pool.map(work, items)) / CORES


def cold_build(options: argparse.Namespace) -> tuple[float, float]:
    """Wall seconds and peak memory in bytes of a build into an empty store."""
    with TemporaryDirectory(prefix="roll-bench-") as work:
        command = [sys.executable, "build.py", "--target", options.target]
        command += ["--store", f"{work}/store", "--cache", str(options.cache)]
        begin = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        seconds = time.perf_counter() - begin
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024.0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="torch280-sglang052")
    parser.add_argument("--store", type=Path, default=ROOT / "store")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "roll-images")
    options = parser.parse_args()
    whole = matrix.load(ROOT / "matrix.yaml")
    wheels = lock.read(whole, whole.target(options.target)).distributions
    store = open_store(options.store, create=False)
    layers = store.load(options.target).layers
    if any(not item.blob.media_type.endswith(layer.COMPRESSIONS[0]) for item in layers):
        parser.error("the store holds the target in another compression than the default")

    seconds, memory = cold_build(options)
    floors = {
        "base bootstrap": bootstrap(options.cache),
        "inflate the wheels": spread(lambda item: inflate(item, options.cache), wheels),
        "hash and compress": spread(lambda item: compress(item, store), layers),
    }
    total = sum(floors.values())
    print("| what | seconds |\n|---|---|")
    for name, value in floors.items():
        print(f"| floor: {name} | {value:.1f} |")
    print(f"| sum of the floors | {total:.1f} |")
    print(f"| cold build, warm downloads | {seconds:.1f} |")
    print(f"\nratio {seconds / total:.2f}; peak memory of a process {memory / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
