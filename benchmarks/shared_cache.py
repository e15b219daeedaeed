"""What an empty builder fetches from the shared cache, after a change of roll_runtime.

    python benchmarks/shared_cache.py --target torch280-sglang052 --place /var/tmp/cache-bench

Starts a registry (`docker-registry`, its data below --place, removed afterwards) on the loopback
interface. A store that has the target fills the cache; then a copy of the sources with another
roll_runtime is built with an empty store and an empty download cache, and pushed to another
repository of the registry. All requests go through a relay that counts bytes. At last the same
lookup is timed as it is, and as it would be with one index for the target.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import requests

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.loopback import Relay, registry, relay  # noqa: E402
from benchmarks.processes import Run, timed  # noqa: E402
from benchmarks.push import linked  # noqa: E402
from images.build import cache_records  # noqa: E402
from images.oci.descriptor import INDEX_TYPE, MANIFEST_TYPE, digest_of  # noqa: E402
from images.oci.reference import Repository  # noqa: E402
from images.oci.registry.client import Registry  # noqa: E402

CACHE, APP = "roll/cache", "roll/app"
LOOKUPS = 9


@dataclass(frozen=True)
class Step:
    """A process with the bytes that it exchanged with the registry."""

    run: Run
    down: int
    up: int

    def row(self) -> str:
        """Return the line of the table."""
        run = self.run
        times = (f"{run.seconds:.2f}", f"{run.cpu:.1f}", f"{run.peak / 1e6:.0f}")
        return f"| {' | '.join((run.what, *times, f'{self.down:,}', f'{self.up:,}'))} |"


class Bench:
    """Runs `build.py` as a user does."""

    def __init__(self, relay: Relay, target: str) -> None:
        self._relay = relay
        self._target = target
        self.steps: list[Step] = []

    def run(self, what: str, sources: Path, *arguments: str) -> str:
        """Run one process; return its output."""
        name, *rest = arguments
        command = [sys.executable, str(sources / "build.py"), name, "--target", self._target, *rest]
        self._relay.counted()
        run, output = timed(what, [*command, "--json"])
        self.steps.append(Step(run, *self._relay.counted()))
        return output


def changed(place: Path) -> Path:
    """Return a copy of the sources with another roll_runtime."""
    copy = place / "checkout"
    copy.mkdir()
    for name in ("images", "roll_runtime"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("build.py", "matrix.yaml"):
        shutil.copy(ROOT / name, copy)
    module = copy / "roll_runtime" / "src" / "roll_runtime" / "__init__.py"
    module.write_text(module.read_text() + f"\n# {time.time()}\n")
    return copy


def downloads(cache: Path) -> str:
    """Return the contents of a download cache in words, by kind of file."""
    files = [path for path in cache.glob("*/*") if path.is_file()]
    kinds = sorted({path.suffix for path in files})
    found = []
    for kind in kinds:
        sizes = [path.stat().st_size for path in files if path.suffix == kind]
        found.append(f"{len(sizes)} {kind} files, {sum(sizes):,} bytes")
    return "; ".join(found) or "nothing"


def lookups(address: str, keys: Sequence[str]) -> str:
    """Return the median seconds to look all keys up, and to get one index of them all."""
    repository = Repository(address, CACHE)

    def find(asked: Sequence[str]) -> list[str]:
        with Registry(repository, plain_http=True, actions="pull") as connected:
            return list(cache_records.find(connected, asked).blobs)

    known = find(keys)
    url = f"http://{address}/v2/{CACHE}/manifests/index"
    _put_index(address, known, url)

    def index() -> None:
        requests.get(url, headers={"Accept": INDEX_TYPE}, timeout=60).raise_for_status()

    each, one = _median(lambda: find(known)), _median(index)
    return f"{len(known)} keys with a record each: {each:.3f} s; one index of them: {one:.3f} s"


def _put_index(address: str, keys: Sequence[str], url: str) -> None:
    with Registry(Repository(address, CACHE), plain_http=True) as connected:
        found = [connected.manifest(cache_records.tag(key)) for key in keys]
    manifests = [
        {"digest": item.digest, "mediaType": MANIFEST_TYPE, "size": len(item.content)}
        for item in found
        if item
    ]
    document = {"manifests": manifests, "mediaType": INDEX_TYPE, "schemaVersion": 2}
    content = json.dumps(document).encode()
    headers = {"Content-Type": INDEX_TYPE, "Docker-Content-Digest": digest_of(content)}
    requests.put(url, data=content, headers=headers, timeout=60).raise_for_status()


def _median(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(LOOKUPS):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    return statistics.median(spent)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="torch280-sglang052")
    parser.add_argument("--store", type=Path, default=ROOT / "store")
    parser.add_argument("--pull", action="store_true", help="fetch the layers at the end, too")
    parser.add_argument(
        "--place", type=Path, required=True, help="on the store's disk, with room for the image"
    )
    options = parser.parse_args()
    options.place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="shared-", dir=options.place) as work:
        place = Path(work)
        full = linked(options.store.resolve(), place)
        keys = _keys(full.path, options.target)
        with registry(place) as upstream, relay(upstream) as between:
            bench = Bench(between, options.target)
            cache = f"{between.address}/{CACHE}"
            old = ["--store", str(full.path), "--cache", str(place / "unused"), "--plain-http"]
            bench.run("fill the cache", ROOT, "build", *old, "--cache-to", cache)
            bench.run("fill it again, unchanged", ROOT, "build", *old, "--cache-to", cache)
            sources, downloaded = changed(place), place / "downloads"
            new = ["--store", str(place / "new"), "--plain-http"]
            both = [*new, "--cache", str(downloaded), "--cache-from", cache, "--cache-to", cache]
            bench.run("build elsewhere, roll_runtime changed", sources, "build", *both)
            fetched = downloads(downloaded)
            to = ["--to", f"{between.address}/{APP}"]
            push = json.loads(bench.run("push it", sources, "push", *new, *to))
            bench.run("build it again, unchanged", sources, "build", *both)
            if options.pull:
                bench.run("pull its layers", sources, "pull", *new[:2])
            times = lookups(upstream, keys)
    print("| what | seconds | CPU seconds | peak memory, MB | bytes down | bytes up |")
    print("|---|---|---|---|---|---|")
    for step in bench.steps:
        print(step.row())
    states = [blob["state"] for blob in push["blobs"]]
    print(f"\npushed blobs: {', '.join(f'{states.count(s)} {s}' for s in sorted(set(states)))}")
    print(f"downloaded: {fetched}")
    print(f"looking up {times}")


def _keys(store: Path, target: str) -> list[str]:
    """Return the keys of the target's layers in a store, those of older recipes included."""
    from images.oci.store.store import open_store

    opened = open_store(store)
    digests = {item.blob.digest for item in opened.load(target).layers}
    names = [path.name for path in (store / ".roll" / "layers").iterdir()]
    return [
        name for name in names if (blob := opened.layer_keys.known(name)) and blob.digest in digests
    ]


if __name__ == "__main__":
    main()
