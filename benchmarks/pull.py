"""What a node pays to pull an image when it has another one, beside what the whole costs.

    python benchmarks/pull.py --place /var/tmp/pull-bench   # as root

Starts a registry (`docker-registry`) on the loopback interface, and podman with a storage of its
own, all below --place and removed afterwards. podman pulls a target onto an empty node,
then a second target, then the first one after the bump of a small pin (one in the highest bucket of
small distributions, one in the lowest) and after a change of roll_runtime; at last the second
target onto another empty node. All requests go through a relay that counts bytes, and its CPU time
is not podman's. The store is not changed: builds and pushes use a copy of hard links.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.checkout import Checkout, Variant  # noqa: E402
from benchmarks.engines.podman import Podman  # noqa: E402
from benchmarks.loopback import Relay, registry, relay  # noqa: E402
from benchmarks.processes import Run, timed  # noqa: E402
from benchmarks.push import linked, pushed  # noqa: E402
from images.oci.image import Image, Layer  # noqa: E402
from images.oci.store.store import Store  # noqa: E402

REPOSITORY = "roll/app"
HIGH, LOW = "sniffio==1.3.0", "distro==1.8.0"
"""Distributions of the highest and the lowest bucket, at releases that they are not locked to."""
ROOM = 20_000_000_000
"""Bytes for a registry with two targets, and one of them unpacked and on its way."""


@dataclass(frozen=True)
class Delta:
    """What a pull must do by the documents of the images alone.

    Attributes:
        kept: how many layers are unpacked on the node with the same chain below them.
        first: title of the layer above these, from which on all are unpacked.
        again: layers that are on the node above another chain: unpacked again, not fetched.
        new: layers that the node does not have.
    """

    kept: int
    first: str
    again: tuple[Layer, ...]
    new: tuple[Layer, ...]

    @classmethod
    def of(cls, image: Image, present: Sequence[Image]) -> Delta:
        """Return what `image` adds to a node that has the images `present`."""
        kept = max((_common(image, other) for other in present), default=0)
        there = {layer.blob.digest for other in present for layer in other.layers}
        above = image.layers[kept:]
        again = tuple(layer for layer in above if layer.blob.digest in there)
        new = tuple(layer for layer in above if layer not in again)
        return cls(kept, above[0].title if above else "none", again, new)


@dataclass(frozen=True)
class Pull:
    """A pull: the process, what it fetched and left on disk in bytes, what it had to do."""

    run: Run
    fetched: int
    disk: int
    delta: Delta
    load: float

    def row(self, whole: Pull) -> str:
        """Return the line of the table of costs."""
        pairs = (
            (self.run.seconds, whole.run.seconds, f"{self.run.seconds:.1f}"),
            (self.fetched, whole.fetched, f"{self.fetched:,}"),
            (self.disk, whole.disk, f"{self.disk / 1e6:,.1f}"),
        )
        cells = [
            text if self is whole else f"{text} ({100 * mine / all_:.3g} %)"
            for mine, all_, text in pairs
        ]
        return _line(self.run.what, *cells, f"{self.run.cpu:.1f}", f"{self.load:.1f}")

    def layers(self) -> str:
        """Return the line of the table of layers."""
        delta = self.delta
        counts = (delta.kept, len(delta.new), len(delta.again))
        sizes = (f"{_unpacked(layers) / 1e6:,.1f}" for layers in (delta.new, delta.again))
        return _line(self.run.what, *map(str, counts), *sizes, delta.first)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _common(one: Image, other: Image) -> int:
    """Return how many layers two images have in common, counted from below."""
    pairs = zip(one.layers, other.layers, strict=False)
    alike = (mine.blob.diff_id == theirs.blob.diff_id for mine, theirs in pairs)
    return sum(takewhile(bool, alike))


def _unpacked(layers: Sequence[Layer]) -> int:
    return sum(layer.blob.unpacked for layer in layers)


class Node:
    """podman with a storage of its own, which pulls by way of a relay."""

    def __init__(self, podman: Podman, relay: Relay) -> None:
        self._podman = podman
        self._relay = relay
        self._present: list[Image] = []

    def pull(self, what: str, image: Image, tag: str) -> Pull:
        """Pull a tag that must be this image."""
        before, delta = self._podman.used(), Delta.of(image, self._present)
        self._relay.counted()
        reference = f"{self._relay.address}/{REPOSITORY}:{tag}"
        run, output = timed(what, self._podman.pull(reference))
        fetched, _ = self._relay.counted()
        if f"sha256:{output.strip()}" != image.config_digest:
            sys.exit(f"{what}: podman has {output.strip()} instead of {image.config_digest}")
        self._present.append(image)
        load, _, _ = os.getloadavg()
        pull = Pull(run, fetched, self._podman.used() - before, delta, load)
        print(pull, file=sys.stderr)
        return pull


@contextmanager
def node(place: Path, relay: Relay) -> Iterator[Node]:
    """Yield an empty node."""
    podman = Podman(place / "node")
    try:
        podman.check()
        yield Node(podman, relay)
    finally:
        podman.remove()


class Source:
    """Builds changed images in the store of hard links, and pushes them without a relay."""

    def __init__(self, store: Store, address: str, checkout: Checkout, target: str) -> None:
        self._store = store
        self._address = address
        self._checkout = checkout
        self._target = target
        self.pushes: list[Run] = []

    def push(self, target: str, tag: str) -> Image:
        """Push the store's image of that name, and return it."""
        to = f"{self._address}/{REPOSITORY}:{tag}"
        self.pushes.append(pushed(f"push {tag}", self._store.path, target, to, "--no-attest"))
        return self._store.load(target)

    def bumped(self, pin: str, tag: str) -> Image:
        """Build and push with another small pin."""
        return self._rebuilt(Variant(tag, self._target, pin=pin))

    def touched(self, pin: str, tag: str) -> Image:
        """Build and push with another roll_runtime, and the pin as well."""
        return self._rebuilt(Variant(tag, self._target, comment="changed", pin=pin))

    def _rebuilt(self, variant: Variant) -> Image:
        self._checkout.at(variant)
        self._checkout.build(self._target)
        return self.push(self._target, variant.name)


def measure(options: argparse.Namespace, place: Path, store: Store) -> tuple[Source, list[Pull]]:
    """All pushes and pulls."""
    first, second = options.target, options.second
    checkout = Checkout(place, Path("matrix.yaml"), store.path, place / "downloads")
    with registry(place) as upstream, relay(upstream) as between:
        source = Source(store, upstream, checkout, first)
        images = {name: source.push(name, name) for name in (first, second)}
        with node(place, between) as holder:
            pulls = [holder.pull(f"{first}, empty node", images[first], first)]
            pulls.append(holder.pull(f"{second}, second target", images[second], second))
            for pin in (HIGH, LOW):
                tag = pin.partition("=")[0]
                pulls.append(holder.pull(f"{first}, {pin}", source.bumped(pin, tag), tag))
            changed = source.touched(LOW, "runtime")
            pulls.append(holder.pull("the last, roll_runtime changed", changed, "runtime"))
        with node(place, between) as holder:
            pulls.append(holder.pull(f"{second}, empty node", images[second], second))
    return source, pulls


def show(pushes: Sequence[Run], pulls: Sequence[Pull]) -> None:
    """Print Markdown tables."""
    first, second, *others, alone = pulls
    print(_line("what", "seconds", "CPU seconds", "peak memory, MB", "bytes sent"))
    print("|---" * 5 + "|")
    for run in pushes:
        print(run.row())
    print("\nIn brackets: of the whole, pulled onto an empty node.\n")
    print(_line("pulled", "seconds", "bytes fetched", "disk added, MB", "CPU seconds", "load"))
    print("|---" * 6 + "|")
    print("\n".join((first.row(first), alone.row(alone), second.row(alone))))
    for pull in others:
        print(pull.row(first))
    print()
    sizes = ("MB of new", "MB of unpacked again")
    print(_line("pulled", "kept", "new", "unpacked again", *sizes, "first one unpacked"))
    print("|---" * 7 + "|")
    for pull in pulls:
        print(pull.layers())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="torch280-sglang052")
    parser.add_argument("--second", default="torch280-sglang055", help="on the node beside it")
    parser.add_argument("--store", type=Path, default=ROOT / "store")
    parser.add_argument("--place", type=Path, required=True, help="on the store's disk")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("podman's own overlay needs root")
    options.place.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(options.place).free) < ROOM:
        parser.error(f"{options.place}: {free / 1e9:.0f} GB free, {ROOM / 1e9:.0f} GB needed")
    # So that all is removed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with TemporaryDirectory(prefix="pull-", dir=options.place) as work:
        source, pulls = measure(options, Path(work), linked(options.store.resolve(), Path(work)))
    show(source.pushes, pulls)


if __name__ == "__main__":
    main()
