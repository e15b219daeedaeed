"""The physical floor of our stages: bytes read, hashed and written at this machine's own rates.

A floor leaves out all that is not a byte of the image: choosing, Debian's maintainer scripts, byte
code, waiting. It is as if all cores were busy without a gap and the disk wrote at the same time.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import zstandard
from isal import isal_zlib

from images.oci.store.store import Store

_SAMPLE = 32 << 20
"""Bytes of each layer that rates are taken of."""
_LARGEST = 12
_STARTS = 7


@dataclass(frozen=True)
class Rates:
    """Bytes a second: of one core, and of the disk; and seconds to start Python once.

    `inflate`, `compress` and `decompress` count unpacked bytes; `write` is with fsync.
    """

    sha256: float
    inflate: float
    compress: float
    decompress: float
    write: float
    start: float


@dataclass(frozen=True)
class Work:
    """The work that a stage cannot leave out, in bytes; `starts` of an interpreter."""

    hashed: int = 0
    inflated: int = 0
    compressed: int = 0
    decompressed: int = 0
    written: int = 0
    starts: int = 0

    def floor(self, rates: Rates) -> float:
        """Return the seconds on all cores of this machine."""
        busy = self.hashed / rates.sha256 + self.inflated / rates.inflate
        busy += self.compressed / rates.compress + self.decompressed / rates.decompress
        at_once = max(busy / (os.cpu_count() or 1), self.written / rates.write)
        return at_once + self.starts * rates.start


def of_build(store: Store, target: str, made: Iterable[str]) -> Work:
    """Return the work of a build that made the layers with these digests.

    Each is inflated from a file that is hashed, hashed as a tar, compressed, hashed and written. A
    wheel is taken to be as large as its layer.
    """
    new = set(made)
    blobs = [item.blob for item in store.load(target).layers if item.blob.digest in new]
    size, unpacked = sum(b.size for b in blobs), sum(b.unpacked for b in blobs)
    return Work(
        hashed=2 * size + unpacked,
        inflated=unpacked,
        compressed=unpacked,
        written=size,
        starts=2 if blobs else 1,  # the second one is the image's Python, for byte code
    )


def of_push(sent: int) -> Work:
    """Return the work of a push: the registry hashes and writes what it is sent."""
    return Work(hashed=sent, written=sent, starts=1)


def of_pull(fetched: int, unpacked: int) -> Work:
    """Return the work of a pull by an engine, which checks both digests of a layer."""
    return Work(fetched + unpacked, decompressed=unpacked, written=unpacked)


def measure(store: Store, target: str, place: Path) -> dict[str, float]:
    """Measure this machine's rates on the layers of a target."""
    samples = list(_samples(store, target))
    deflated = [isal_zlib.compress(sample) for sample in samples]
    packed = [zstandard.compress(sample, 3) for sample in samples]
    total = sum(map(len, samples))

    def rate(work: Callable[[bytes], object], items: Iterable[bytes]) -> float:
        begin = time.thread_time()
        for item in items:
            work(item)
        return total / (time.thread_time() - begin)

    rates = Rates(
        sha256=rate(lambda item: hashlib.sha256(item).digest(), samples),
        inflate=rate(isal_zlib.decompress, deflated),
        compress=rate(lambda item: zstandard.compress(item, 3), samples),
        decompress=rate(zstandard.decompress, packed),
        write=_write(samples, place / "written"),
        start=_start(),
    )
    return asdict(rates)


def _samples(store: Store, target: str) -> Iterator[bytes]:
    layers = sorted(store.load(target).layers, key=lambda item: -item.blob.size)
    for item in layers[:_LARGEST]:
        with store.blobs.path(item.blob.digest).open("rb") as blob:
            reader = zstandard.ZstdDecompressor().stream_reader(blob)
            yield reader.read(_SAMPLE)


def _write(samples: Iterable[bytes], path: Path) -> float:
    os.sync()
    begin, total = time.perf_counter(), 0
    with path.open("wb", buffering=0) as out:
        for _ in range(4):
            for sample in samples:
                total += out.write(sample)
        os.fsync(out.fileno())
    seconds = time.perf_counter() - begin
    path.unlink()
    return total / seconds


def _start() -> float:
    spent = []
    for _ in range(_STARTS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import argparse, json"], check=True)
        spent.append(time.perf_counter() - begin)
    return median(spent)
