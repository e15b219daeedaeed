"""What leaves the wheels of a target with the code for other GPUs, and whether nothing else does.

    python benchmarks/gpu_code.py torch280-sglang052 [--gpus 9.0] [--compare]

For each distribution of `gpu_code:` and `left_out:` a line of JSON: the size of its layer as it is
published and as it is installed (zstd, without byte code), and the seconds that making it took.
`--compare` reads each installed file and compares it with the wheel's by code of its own, a library
as a loader maps it: outside of containers all bytes are the same, and inside them nothing but
cubins of other major versions and PTX for later GPUs is gone. Needs the target's locked wheels in
the download cache.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import struct
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from images import image_paths
from images.content import changed_wheels
from images.formats import wheel_file
from images.formats.wheel_changes import NOTE, Changes
from images.inputs.fetch import download_cache
from images.inputs.lock import target_lock
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.load import load
from images.oci.layer import writer
from images.repository import ROOT

MAGIC = b"\x50\xed\x55\xba"
HEADER = 64
"""Bytes of a file's header, which is in memory as well and says where the file's tables are."""
SITE = f"{image_paths.SITE_PACKAGES}/"
Code = tuple[int, int, bytes]


class Nowhere:
    """Takes a layer's bytes."""

    def write(self, data: bytes) -> int:
        """Take a piece."""
        return len(data)


def main() -> None:
    """Measure, and compare if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--gpus", default="", help="compute capabilities, by commas")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--only", default="", help="distributions, by commas")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/roll-images")
    options = parser.parse_args()
    matrix = load(ROOT / "matrix.yaml")
    lock = target_lock.read(matrix, matrix.target(options.target))
    if options.gpus:
        lock = replace(lock, gpus=tuple(options.gpus.split(",")))
    only = set(filter(None, options.only.split(",")))
    for item in lock.distributions:
        if changed_wheels.rules(lock, item) and (not only or item.name in only):
            path = download_cache.checked(item.artifact, options.cache)
            print(json.dumps(measured(lock, item, path)), flush=True)
            if options.compare:
                compare(lock, item, path)


def measured(lock: Lock, item: Distribution, path: Path) -> dict[str, Any]:
    """Return sizes and seconds of a layer, published and installed."""
    found: dict[str, Any] = {"wheel": f"{item.name} {item.version}", "gpus": " ".join(lock.gpus)}
    for name, changes in (("published", None), ("installed", changes_of(lock, item))):
        begin, processor = time.monotonic(), time.process_time()
        with wheel_file.opened(path) as wheel:
            out = cast(IO[bytes], Nowhere())
            blob = writer.write(wheel_file.entries(wheel, (), changes), out, "zstd")
        found[name] = round(blob.size / 1e6, 1)
        found[f"{name}_s"] = round(time.monotonic() - begin, 1)
        found[f"{name}_cpu_s"] = round(time.process_time() - processor, 1)
    return found


def changes_of(lock: Lock, item: Distribution) -> Changes:
    """Return the changes to a distribution."""
    rules = changed_wheels.rules(lock, item)
    assert rules is not None
    return Changes(rules, lambda line: print(f"  {item.name}: {line}", file=sys.stderr))


def compare(lock: Lock, item: Distribution, path: Path) -> None:
    """Compare each installed file with the wheel's; raise AssertionError at the first fault."""
    majors = {int(one.partition(".")[0]) for one in lock.gpus}
    newest = max(int(one.replace(".", "")) for one in lock.gpus)
    rows: dict[str, str] = {}
    seen: set[str] = set()
    note: dict[str, Any] = {"files": {}, "left_out": {}}
    differing = []
    with wheel_file.opened(path) as wheel, zipfile.ZipFile(path) as archive:
        names = {
            wheel_file.destination(path.name, wheel.source.distribution, name)[0]: name
            for name in archive.namelist()
            if not name.endswith("/")
        }
        for entry in wheel_file.entries(wheel, (), changes_of(lock, item)):
            with entry.open() as stream:
                made = stream.read()
            seen.add(entry.path)
            digest = base64.urlsafe_b64encode(hashlib.sha256(made).digest()).decode().rstrip("=")
            rows[entry.path] = f"sha256={digest}"
            if entry.path.endswith(f"/{NOTE}"):
                note = json.loads(made)
            elif entry.path.endswith(".dist-info/RECORD"):
                check_record(made.decode(), rows, entry.path)
            elif entry.path in names and entry.path.startswith(SITE):
                published = archive.read(names[entry.path])
                if made != published:
                    differing.append(entry.path)
                    check_library(published, made, majors, newest)
    gone = {f"/{name}" for name in names.keys() - seen}
    assert gone == note["left_out"].keys(), sorted(gone)[:3]
    changed = {
        name for name, one in note["files"].items() if one.keys() & {"removed", "smaller_by"}
    }
    assert {f"/{name}" for name in differing} == changed, differing
    print(
        f"  {len(seen)} files compared, {len(differing)} changed, {len(gone)} left out", flush=True
    )


def check_record(text: str, rows: dict[str, str], own: str) -> None:
    """Compare a RECORD with the hashes of what is installed."""
    listed = {SITE + name: digest for name, digest, _ in csv.reader(text.splitlines())}
    inside = {name: digest for name, digest in rows.items() if name != own}
    wrong = [name for name, digest in inside.items() if listed.get(name, digest) != digest]
    assert not wrong, wrong[:3]
    assert {name for name in inside if name.startswith(SITE)} <= listed.keys()


def check_library(published: bytes, made: bytes, majors: set[int], newest: int) -> None:
    """Compare what a loader maps of a library with what it maps of what is installed of it."""
    before, after = memory(published), memory(made)
    assert len(after) == len(before)
    at = HEADER
    for start, end in containers(published, before):
        assert after[at:start] == before[at:start]
        at = end
        entries = list(code(after, start))
        assert entries == [one for one in code(before, start) if stays(one, majors, newest)]
        used = start + 16 + struct.unpack_from("<Q", after, start + 8)[0]
        assert after.count(0, used, end) == end - used
    assert after[at:] == before[at:]


def memory(content: bytes) -> bytearray:
    """Return a library as it is in memory, from its first address on."""
    (table,) = struct.unpack_from("<Q", content, 32)
    (count,) = struct.unpack_from("<H", content, 56)
    rows = [struct.unpack_from("<I4xQQ8xQQ8x", content, table + 56 * n) for n in range(count)]
    loads = [row[1:] for row in rows if row[0] == 1]
    found = bytearray(max(address + whole for _, address, _, whole in loads))
    for offset, address, size, _ in loads:
        found[address : address + size] = content[offset : offset + size]
    return found


def stays(one: Code, majors: set[int], newest: int) -> bool:
    """Return whether an entry has to stay: PTX for no later GPU, and cubins of a served major."""
    kind, architecture, _ = one
    return architecture <= newest if kind == 1 else architecture // 10 in majors


def containers(content: bytes, mapped: bytearray) -> Iterator[tuple[int, int]]:
    """Yield the addresses where the containers of a library's two sections begin and end."""
    (table,) = struct.unpack_from("<Q", content, 40)
    count, names = struct.unpack_from("<HH", content, 60)
    rows = [struct.unpack_from("<I12xQQQ", content, table + 64 * n) for n in range(count)]
    for name, start, _, size in sorted(rows, key=lambda row: row[1]):
        text = content[rows[names][2] + name :][:20]
        if not text.startswith((b".nv_fatbin\0", b"__nv_relfatbin\0")):
            continue
        end = start + size
        while start < end:
            assert mapped[start : start + 4] == MAGIC
            (length,) = struct.unpack_from("<Q", mapped, start + 8)
            yield start, start + 16 + length
            start += 16 + length


def code(content: bytearray, start: int) -> Iterator[Code]:
    """Yield kind, architecture and hash of the entries of a container."""
    (length,) = struct.unpack_from("<Q", content, start + 8)
    at, end = start + 16, start + 16 + length
    while at < end:
        kind, head, size = struct.unpack_from("<H2xIQ", content, at)
        (architecture,) = struct.unpack_from("<I", content, at + 28)
        yield kind, architecture, hashlib.sha256(content[at : at + head + size]).digest()
        at += head + size


if __name__ == "__main__":
    main()
