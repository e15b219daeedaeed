"""A cold build from a warm download cache, compared with the sum of its floors.

    python benchmarks/cold.py --target torch280-sglang052 --rounds 3

Each round is a build and then its floors, as a machine's speed changes by the hour; the ratio is
taken within a round.

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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

import zstandard

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from images.content.debian import rootfs  # noqa: E402
from images.inputs.fetch import download_cache  # noqa: E402
from images.inputs.lock import base_lock, target_lock  # noqa: E402
from images.inputs.lock.distribution import Distribution  # noqa: E402
from images.inputs.matrix.load import load  # noqa: E402
from images.oci.descriptor import COMPRESSIONS  # noqa: E402
from images.oci.image import Layer  # noqa: E402
from images.oci.store.store import Store, open_store  # noqa: E402

T = TypeVar("T")
CORES = os.cpu_count() or 1
CHUNK = 1 << 20


def bootstrap(cache: Path) -> float:
    """Wall seconds of putting the base together."""
    with TemporaryDirectory() as work:
        begin = time.perf_counter()
        rootfs.build(base_lock.read(), cache, Path(work))
        return time.perf_counter() - begin


def inflate(item: Distribution, cache: Path) -> float:
    """CPU seconds of inflating a wheel."""
    begin = time.thread_time()
    if item.is_wheel:
        with zipfile.ZipFile(download_cache.cached(item.artifact, cache)) as archive:
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
    with store.blobs.path(item.blob.digest).open("rb") as blob:
        for piece in zstandard.ZstdDecompressor().read_to_iter(blob, write_size=CHUNK):
            begin = time.thread_time()
            tar_hash.update(piece)
            blob_hash.update(compressor.compress(piece))
            spent += time.thread_time() - begin
    begin = time.thread_time()
    blob_hash.update(compressor.flush())
    return spent + time.thread_time() - begin


def spread(work: Callable[[T], float], items: Iterable[T]) -> float:
    """Return the sum of what `work` returns, divided by the number of cores."""
    with ThreadPoolExecutor(CORES) as pool:
        return sum(pool.map(work, items)) / CORES


@dataclass(frozen=True)
class Build:
    """A cold build: seconds, processors kept busy on average, peak bytes of a process."""

    seconds: float
    busy: float
    memory: float


def cold_build(options: argparse.Namespace) -> Build:
    """Build into an empty store."""
    with TemporaryDirectory(prefix="roll-bench-") as work:
        command = [sys.executable, "build.py", "--target", options.target]
        command += ["--store", f"{work}/store", "--cache", str(options.cache)]
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        seconds = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Build(seconds, spent / seconds, after.ru_maxrss * 1024.0)


def measured_floors(
    cache: Path, wheels: Iterable[Distribution], layers: Iterable[Layer], store: Store
) -> dict[str, float]:
    """Seconds of each floor."""
    return {
        "base bootstrap": bootstrap(cache),
        "inflate the wheels": spread(lambda item: inflate(item, cache), wheels),
        "hash and compress": spread(lambda item: compress(item, store), layers),
    }


def spread_of(values: Sequence[float], digits: int = 1) -> str:
    """Median (lowest to highest)."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="torch280-sglang052")
    parser.add_argument("--store", type=Path, default=ROOT / "store")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "roll-images")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    whole = load(ROOT / "matrix.yaml")
    wheels = target_lock.read(whole, whole.target(options.target)).distributions
    store = open_store(options.store, create=False)
    layers = store.load(options.target).layers
    if any(not item.blob.media_type.endswith(COMPRESSIONS[0]) for item in layers):
        parser.error("the store holds the target in another compression than the default")

    builds: list[Build] = []
    floors: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        builds.append(cold_build(options))
        for name, seconds in measured_floors(options.cache, wheels, layers, store).items():
            floors.setdefault(name, []).append(seconds)
    sums = [sum(values) for values in zip(*floors.values(), strict=True)]
    print("| what | seconds |\n|---|---|")
    for name, values in floors.items():
        print(f"| floor: {name} | {spread_of(values)} |")
    print(f"| sum of the floors | {spread_of(sums)} |")
    print(f"| cold build, warm downloads | {spread_of([build.seconds for build in builds])} |")
    ratios = [build.seconds / floor for build, floor in zip(builds, sums, strict=True)]
    print(
        f"\nratio {spread_of(ratios, 2)}; {spread_of([build.busy for build in builds], 2)} of "
        f"{CORES} cores busy; peak memory of a process "
        f"{max(build.memory for build in builds) / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
