"""Our builder beside what a user would do instead, on the same lock and the same base.

    python benchmarks/side_by_side.py --place /var/tmp/rivals                    # all, as root
    python benchmarks/side_by_side.py --place /var/tmp/rivals --only buildkit-zstd --minutes 8
    python benchmarks/side_by_side.py --results benchmarks/side_by_side.json --table

Each rival builds, pushes to a registry on the loopback interface, and is taken away; then podman
pulls what was pushed. Every reading is written to the results at once, and what they contain is
not measured again: rerun the command to resume a run that was interrupted or ended by --minutes.
`--small` does all of it with a few megabytes of wheels, to see that it works.

The download cache is warm: the wheels are hard links to --cache, and the rivals get them from a
page on the loopback interface; their cold build has uv's cache filled as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.engines.podman import Podman  # noqa: E402
from benchmarks.rivals import floor, machine  # noqa: E402
from benchmarks.rivals.results import OURS, Results, tables  # noqa: E402
from benchmarks.rivals.rival import Bench, Rival  # noqa: E402
from benchmarks.rivals.sources import MATRIX, SMALL, Sources  # noqa: E402
from benchmarks.rivals.steps import (  # noqa: E402
    Builder,
    KeptRegistry,
    Node,
    Rounds,
    Step,
    clear,
    kept_registry,
    sequence,
    variants,
)
from benchmarks.rivals.ways import WAYS, Way  # noqa: E402
from images.oci.store.store import open_store  # noqa: E402

FIRST, SECOND = "torch280-sglang052", "torch280-sglang054"


class Run:
    """The sources, wheels and results that all rivals of one run share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        place: Path = options.place
        self._place = place / "small" if options.small else place / "real"
        self._place.mkdir(parents=True, exist_ok=True)
        self.results = Results(options.results or self._place / "results.json")
        self._end = time.monotonic() + 60 * options.minutes
        rounds = Rounds(options.same, options.runtimes, options.bumps)
        self._variants = variants(FIRST, SECOND, rounds)
        store, matrix = open_store(options.store, create=False), SMALL if options.small else MATRIX
        self._sources = Sources(
            self._place, place, matrix, store, FIRST, options.cache, options.port
        )

    def all(self) -> None:
        """Measure every selected rival, one after the other."""
        document = self.results.document
        document["machine"] = machine.describe(self._place)
        if not document["rates"]:
            document["rates"] = floor.measure(self._sources.store, FIRST, self._place)
        self.results.keep()
        with self._sources.benches(list(self._variants.values())) as bench:
            for name in self._options.only:
                self._one(name, WAYS[name], bench(name))

    def _one(self, name: str, way: Way, bench: Bench) -> None:
        building, pulling = sequence(list(self._variants), cached=way.cached)
        self._begin(name, [*building, *pulling], way, bench.place)
        known = self.results.of(name)
        if any(step.key not in known for step in [*building, *pulling]):
            with kept_registry(bench.place / "registry", self._options.port + 1) as registry:
                rival = way.make(bench)
                self.results.document["versions"][name] = dict(rival.versions())
                if self._build(name, rival, building, registry):
                    rival.drop()
                    if self._pull(name, pulling, registry, bench.place):
                        Podman(bench.place / "node").remove()
                        clear(bench.place)

    def _begin(self, name: str, steps: list[Step], way: Way, place: Path) -> None:
        """Make a rival's directory; measurements from one that is gone cannot be continued."""
        known = self.results.of(name)
        if self._options.again:
            clear(place)
            known.clear()
        if all(step.key in known for step in steps) or place.exists():
            return
        known.clear()
        room = 4_000_000_000 if self._options.small else way.room
        if (free := shutil.disk_usage(self._place).free) < room:
            sys.exit(f"{name}: {free / 1e9:.0f} GB free, {room / 1e9:.0f} GB needed")
        place.mkdir()

    def _build(self, name: str, rival: Rival, steps: list[Step], registry: KeptRegistry) -> bool:
        """Measure the steps that are missing; return whether all are done."""
        known = self.results.of(name)
        if all(step.key in known for step in steps):
            return True
        with rival.running() as daemons:
            builder = Builder(rival, daemons, registry)
            for step in steps:
                if step.key in known:
                    continue
                if time.monotonic() > self._end:
                    return False
                reading = builder.measure(step, self._variants[step.variant])
                self._keep(name, step, reading)
        return True

    def _pull(self, name: str, steps: list[Step], registry: KeptRegistry, place: Path) -> bool:
        known = self.results.of(name)
        node = Node(place / "node", registry, ours=name == OURS)
        for number, step in enumerate(steps):
            if step.key in known:
                continue
            if time.monotonic() > self._end:
                return False
            before = steps[number - 1].variant if number else None
            later = [other.variant for other in steps[number + 1 :]]
            self._keep(name, step, node.measure(step, before, later))
        return True

    def _keep(self, name: str, step: Step, reading: dict[str, object]) -> None:
        # The load shows how busy the machine was with other things: a reading at 10 is worthless.
        self.results.of(name)[step.key] = {**reading, "load": os.getloadavg()[0]}
        self.results.keep()
        print(f"{name}: {step.key}: {reading}", file=sys.stderr)


def main() -> None:
    """Run the benchmark, or show what is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--place", type=Path, help="directory for all files, on the disk of store and cache")
    add("--store", type=Path, default=ROOT / "store", help=f"holds {FIRST}, for its base")
    add("--cache", type=Path, default=Path.home() / ".cache" / "roll-images")
    add("--results", type=Path, help="the JSON file (default: below --place)")
    add(
        "--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="RIVAL", help=", ".join(WAYS)
    )
    add("--again", action="store_true", help="forget what was measured of these before")
    add("--small", action="store_true", help="two small targets: a test of the benchmark itself")
    add("--minutes", type=float, default=1e6, help="begin nothing after so many")
    add("--same", type=int, default=5, help="builds without a change (%(default)s)")
    add("--runtimes", type=int, default=3, help="changes of roll_runtime (%(default)s)")
    add("--bumps", type=int, choices=(1, 2, 3), default=1, help="bumps of a pin (%(default)s)")
    add("--port", type=int, default=8151, help="of the wheels' page; the registry's is the next")
    add("--table", action="store_true", help="measure nothing; print the tables of --results")
    options = parser.parse_args()
    titles = {name: way.title for name, way in WAYS.items()}
    if options.table:
        if not options.results:
            parser.error("--table needs --results")
        print(tables(Results(options.results).document, titles))
        return
    if not options.place or os.geteuid():
        parser.error("needs --place, and root for Docker and overlay")
    options.place = options.place.resolve()
    # Python caches byte code by default, and so does a user's.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # So that daemons end and nothing stays mounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    Run(options).all()


if __name__ == "__main__":
    main()
