"""What nodes pay to pull our images, and a rival's: podman, containerd and Docker.

    python benchmarks/pull.py --place /var/tmp/pulls                         # all, as root
    python benchmarks/pull.py --place /var/tmp/pulls --only podman docker --steps cold
    python benchmarks/pull.py --results benchmarks/pull.json --table

For each image in turn: it is built in its variants, pushed to a registry on the loopback interface,
and its builder is removed. Then each engine, with an empty storage of its own, pulls the first
target, and onto that a bumped pin, a flavour and a second target. The storage is removed then. All
requests go through a relay that counts bytes, and its CPU time is hardly any. Ours is taken from
--store as far as it is there; the store is not changed: a copy of hard links is.

Every reading is written to the results at once, and what they contain is not measured again: rerun
the command to resume a run that was interrupted or ended by --minutes. A node that has lost its
first target pulls it again, without a reading. `--small` does all of it with a few megabytes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.checkout import BUMPS, Variant  # noqa: E402
from benchmarks.engines.kinds import ENGINES, Where  # noqa: E402
from benchmarks.engines.node import Node  # noqa: E402
from benchmarks.engines.tables import PULLS, tables  # noqa: E402
from benchmarks.push import linked  # noqa: E402
from benchmarks.rivals import machine  # noqa: E402
from benchmarks.rivals.ours import Ours  # noqa: E402
from benchmarks.rivals.results import OURS, Results  # noqa: E402
from benchmarks.rivals.rival import COLD, SECOND, Bench, Rival, quiet  # noqa: E402
from benchmarks.rivals.sources import MATRIX, SMALL, Sources  # noqa: E402
from benchmarks.rivals.steps import KeptRegistry, clear, kept_registry  # noqa: E402
from benchmarks.rivals.ways import WAYS  # noqa: E402
from images.oci.store.store import open_store  # noqa: E402

FIRST = "torch280-sglang052"
LOW = "distro==1.8.0"
"""A distribution of our lowest bucket, at a release that it is not locked to."""
IMAGES = (OURS, "buildkit-zstd", "buildkit-zstd-three")
OF_RIVALS = (COLD, "bump", SECOND)
"""The steps of rivals: they have no buckets, and a flavour of theirs would be one more RUN."""
ROOM = 25_000_000_000
"""Bytes for a registry with all variants, and one node that pulls them."""


class Stored(Ours):
    """Our builder on a copy of the store: what is built there is not built again."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._place = bench.place

    @contextmanager
    def running(self) -> Iterator[Sequence[int]]:
        """Copy the store by hard links."""
        self.drop()
        linked(self._bench.store.path, self._place)
        yield ()

    def prepare(self, variant: Variant) -> None:
        """Write the sources of a variant."""
        self._bench.checkout.at(variant)


class Run:
    """One run: its images, one after the other, each pulled by all engines."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        place: Path = options.place / ("small" if options.small else "real")
        place.mkdir(parents=True, exist_ok=True)
        self._place = place
        self.results = Results(options.results or place / "pull.json")
        self._end = time.monotonic() + 60 * options.minutes
        self._variants = variants("torch280-sglang054" if options.small else options.second)
        self._sources = Sources(
            place,
            options.place,
            SMALL if options.small else MATRIX,
            open_store(options.store.resolve(), create=False),
            FIRST,
            options.cache,
            options.port,
        )

    def all(self) -> None:
        """Measure all images."""
        self.results.document["machine"] = machine.describe(self._place)
        wanted = [name for name in self._options.images if self._missing_of(name)]
        steps = {step for name in wanted for step in self._steps(name)}
        chosen = [variant for name, variant in self._variants.items() if name in steps]
        if not chosen:
            return
        with self._sources.benches(chosen) as bench:
            for image in wanted:
                self._one(image, bench(image))

    def _steps(self, image: str) -> list[str]:
        known = PULLS if image == OURS else OF_RIVALS
        # All others are pulled onto the first.
        return [step for step in known if step in self._options.steps or step == COLD]

    def _missing_of(self, image: str) -> dict[tuple[str, int], list[str]]:
        """Return the steps without a reading, of each engine and round."""
        rounds = range(1, self._options.rounds + 1)
        found = {}
        for number in rounds:
            for engine in self._options.only:
                known = self.results.of(f"{engine} {image}")
                steps = [step for step in self._steps(image) if f"{step}-{number}" not in known]
                if steps:
                    found[engine, number] = steps
        return found

    def _one(self, image: str, bench: Bench) -> None:
        missing = self._missing_of(image)
        self._room(WAYS[image].room if image != OURS else ROOM)
        with kept_registry(bench.place / "registry", 0) as registry:
            self._build(image, bench, registry)
            for (engine, number), steps in missing.items():
                if time.monotonic() > self._end:
                    return
                self._pull(engine, image, registry, number, steps)
        clear(bench.place)

    def _room(self, needed: int) -> None:
        needed = 4_000_000_000 if self._options.small else needed
        if (free := shutil.disk_usage(self._place).free) < needed:
            sys.exit(f"{self._place}: {free / 1e9:.0f} GB free, {needed / 1e9:.0f} GB needed")

    def _build(self, image: str, bench: Bench, registry: KeptRegistry) -> None:
        """Push what the registry lacks; a rival makes other bytes each time, so all of it."""
        steps = self._steps(image)
        if all(registry.has(step) for step in steps):
            return
        rival: Rival = Stored(bench) if image == OURS else WAYS[image].make(bench)
        rival.drop()
        with rival.running():
            for step in steps:
                self._say(f"{image}: build and push {step}")
                variant = self._variants[step]
                rival.prepare(variant)
                quiet(rival.build(variant))
                quiet(rival.push(variant, registry.reference(step)))
                rival.after(variant)
        rival.drop()

    def _pull(
        self, name: str, image: str, registry: KeptRegistry, number: int, steps: Sequence[str]
    ) -> None:
        """Measure the missing steps of one engine, on a node that begins empty."""
        place, options = self._place / "node", self._options
        clear(place)
        engine = ENGINES[name].make(Where(place, options.place, options.containerd))
        self.results.document["versions"][name] = dict(engine.versions())
        known = self.results.of(f"{name} {image}")
        with engine.running() as daemons:
            node = Node(engine, daemons, registry)
            for step in (COLD, *(step for step in steps if step != COLD)):
                if time.monotonic() > self._end:
                    return
                reading = node.pull(step)
                if step in steps:
                    known[f"{step}-{number}"] = reading
                    self.results.keep()
                    self._say(f"{name}, {image}: {step}-{number}: {reading}")

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def variants(second: str) -> Mapping[str, Variant]:
    """Return the state of the sources for each step."""
    made = (
        Variant(COLD, FIRST),
        Variant("bump", FIRST, pin=BUMPS[0]),
        Variant("low", FIRST, pin=LOW),
        Variant("flavour", f"{FIRST}-roll"),
        Variant(SECOND, second),
    )
    return {variant.name: variant for variant in made}


def main() -> None:
    """Run the benchmark, or show what is known."""
    options = _options()
    if options.table:
        engines = {name: kind.title for name, kind in ENGINES.items()}
        titles = {name: way.title for name, way in WAYS.items()}
        print(tables(Results(options.results).document, engines, titles))
        return
    # Python caches byte code by default, and so does a user's.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # So that daemons end and storages are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    Run(options).all()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--place", type=Path, help="directory for all files, on the disk of store and cache")
    add("--store", type=Path, default=ROOT / "store", help=f"holds {FIRST}")
    add("--cache", type=Path, default=Path.home() / ".cache" / "roll-images")
    add("--results", type=Path, help="the JSON file (default: below --place)")
    add("--only", nargs="+", choices=ENGINES, metavar="ENGINE", help=", ".join(ENGINES))
    add("--images", nargs="+", choices=WAYS, default=IMAGES, metavar="RIVAL", help=", ".join(WAYS))
    add("--steps", nargs="+", choices=PULLS, default=list(PULLS), metavar="STEP", help=str(PULLS))
    add("--containerd", type=Path, help="directory with containerd and ctr of a release")
    add("--second", default="torch280-sglang055", help="the second target (%(default)s)")
    add("--rounds", type=int, default=1, help="of all pulls (%(default)s)")
    add("--small", action="store_true", help="small targets: a test of the benchmark itself")
    add("--minutes", type=float, default=1e6, help="begin nothing after so many")
    add("--port", type=int, default=8161, help="of the wheels' page")
    add("--table", action="store_true", help="measure nothing; print the tables of --results")
    options = parser.parse_args()
    if options.table:
        if not options.results:
            parser.error("--table needs --results")
        return options
    if not options.place or os.geteuid():
        parser.error("needs --place, and root for daemons and overlay")
    if not options.containerd and any(ENGINES[name].released for name in options.only or ()):
        parser.error("a release of containerd is named by --containerd")
    options.only = options.only or [
        name for name, kind in ENGINES.items() if options.containerd or not kind.released
    ]
    options.place = options.place.resolve()
    options.containerd = options.containerd and options.containerd.resolve()
    return options


if __name__ == "__main__":
    main()
