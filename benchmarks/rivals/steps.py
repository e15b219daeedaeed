"""The steps that are measured of each rival, in order, and the measurement of one step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests

from benchmarks.checkout import BUMPS, Variant
from benchmarks.engines.podman import Podman
from benchmarks.loopback import Relay, registry_on, relay
from benchmarks.processes import timed
from benchmarks.removal import remove
from benchmarks.rivals import floor
from benchmarks.rivals.ours import Ours
from benchmarks.rivals.results import Reading
from benchmarks.rivals.rival import COLD, FIRST, SECOND, Rival
from images.oci.descriptor import INDEX_TYPE, MANIFEST_TYPE
from images.oci.store.store import open_store

REPOSITORY = "bench/app"
_MANIFESTS = (MANIFEST_TYPE, INDEX_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
_ACCEPT = {"Accept": ", ".join(_MANIFESTS)}


@dataclass(frozen=True)
class Step:
    """One thing that is measured: `build`, `push` or `pull` of a variant."""

    kind: str
    variant: str

    @property
    def key(self) -> str:
        """The step's name in the results."""
        return f"{self.kind} {self.variant}"


@dataclass(frozen=True)
class Rounds:
    """How often each change is measured."""

    same: int
    runtime: int
    bump: int


def variants(first: str, second: str, rounds: Rounds) -> dict[str, Variant]:
    """Return all variants of the sources, in the order in which they are built."""
    made = [Variant(FIRST, first), Variant(COLD, first)]
    made += [Variant(f"same-{number}", first) for number in _count(rounds.same)]
    made += [Variant(f"runtime-{n}", first, comment=f"round {n}") for n in _count(rounds.runtime)]
    made += [Variant(f"bump-{n}", first, pin=BUMPS[n - 1]) for n in _count(rounds.bump)]
    made += [Variant(SECOND, second)]
    return {variant.name: variant for variant in made}


def _count(number: int) -> range:
    return range(1, number + 1)


def sequence(names: Sequence[str], *, cached: bool) -> tuple[list[Step], list[Step]]:
    """Return the steps of the builder and those of the node, which follow when it is removed.

    Args:
        names: of the variants.
        cached: whether the rival keeps anything; if not, its first build is its cold one, and a
            second target is one more cold build.
    """
    builds = [Step("build", name) for name in names]
    sent = [name for name in names if name != FIRST and not name.startswith("same")]
    if not cached:
        builds = [step for step in builds if step.variant not in (FIRST, SECOND)]
        sent.remove(SECOND)
    steps = []
    for step in builds:
        steps.append(step)
        if step.variant in sent:
            steps.append(Step("push", step.variant))
    return steps, [Step("pull", name) for name in sent]


class Builder:
    """A rival with a registry before which bytes are counted."""

    def __init__(self, rival: Rival, daemons: Sequence[int], registry: KeptRegistry) -> None:
        self._rival = rival
        self._daemons = daemons
        self._registry = registry

    def measure(self, step: Step, variant: Variant) -> Reading:
        """Measure one build or push."""
        if step.kind == "build":
            return self._build(step, variant)
        reading = self._push(step, variant)
        self._rival.after(variant)
        return reading

    def _build(self, step: Step, variant: Variant) -> Reading:
        self._rival.prepare(variant)
        command = self._rival.build(variant)
        run, output = timed(step.key, command, self._daemons)
        reading: Reading = {"seconds": run.seconds, "memory": run.together}
        if isinstance(self._rival, Ours):
            made = [item["digest"] for item in json.loads(output)["layers"] if not item["reused"]]
            store = open_store(self._rival.store)
            reading["work"] = asdict(floor.of_build(store, variant.target, made))
        return reading

    def _push(self, step: Step, variant: Variant) -> Reading:
        command = self._rival.push(variant, self._registry.reference(variant.name))
        self._registry.relay.counted()
        run, _ = timed(step.key, command, self._daemons)
        _, sent = self._registry.relay.counted()
        reading: Reading = {"seconds": run.seconds, "memory": run.together, "sent": sent}
        if isinstance(self._rival, Ours):
            reading["work"] = asdict(floor.of_push(sent))
        return {**reading, **self._registry.size(variant.name)}


class Node:
    """An engine that pulls, and has the variant before."""

    def __init__(self, place: Path, registry: KeptRegistry, *, ours: bool) -> None:
        self._podman = Podman(place)
        self._registry = registry
        self._ours = ours

    def measure(self, step: Step, before: str | None, later: Sequence[str]) -> Reading:
        """Measure one pull.

        Args:
            step: the pull.
            before: the variant that the node has; removed afterwards, to keep the disk.
            later: those that are pulled after this one, for which the registry keeps its blobs.
        """
        if before is None:
            self._podman.check()
        used_before = self._podman.used()
        reference = self._registry.reference(step.variant)
        self._registry.relay.counted()
        run, _ = timed(step.key, self._podman.pull(reference), ())
        fetched, _ = self._registry.relay.counted()
        disk = self._podman.used() - used_before
        if before is not None:
            self._podman.forget(self._registry.reference(before))
        self._registry.forget(step.variant, later)
        reading: Reading = {"seconds": run.seconds, "memory": run.together, "fetched": fetched}
        if self._ours:
            reading["work"] = asdict(floor.of_pull(fetched, disk))
        return {**reading, "disk": disk}


class KeptRegistry:
    """A registry whose data are kept between runs, behind a relay on a fixed port."""

    def __init__(self, data: Path, upstream: str, between: Relay) -> None:
        self.relay = between
        self._data = data
        self._url = f"http://{upstream}/v2/{REPOSITORY}"

    def reference(self, tag: str) -> str:
        """Return the reference of a tag; with another port it would be another registry."""
        return f"{self.relay.address}/{REPOSITORY}:{tag}"

    def size(self, tag: str) -> dict[str, int]:
        """Return the bytes of an image's layers, and their number."""
        layers = self._manifest(tag)["layers"]
        return {"compressed": sum(layer["size"] for layer in layers), "layers": len(layers)}

    def forget(self, tag: str, later: Sequence[str]) -> None:
        """Remove the blobs that no other of these tags needs: disks are small."""
        needed = {digest for other in later for digest in self._layers(other)}
        for digest in set(self._layers(tag)) - needed:
            self._blob(digest).unlink(missing_ok=True)

    def has(self, tag: str) -> bool:
        """Return whether the image is there."""
        url = f"{self._url}/manifests/{tag}"
        return requests.head(url, headers=_ACCEPT, timeout=60).ok

    def warm(self, tag: str) -> None:
        """Read an image's blobs, so that no pull is the only one to read them from the disk."""
        for digest in self._layers(tag):
            with self._blob(digest).open("rb", buffering=0) as stream:
                while stream.read(1 << 20):
                    pass

    def _blob(self, digest: str) -> Path:
        value = digest.removeprefix("sha256:")
        return self._data / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"

    def _layers(self, tag: str) -> list[str]:
        return [layer["digest"] for layer in self._manifest(tag)["layers"]]

    def _manifest(self, name: str) -> dict[str, Any]:
        answer = requests.get(f"{self._url}/manifests/{name}", headers=_ACCEPT, timeout=60)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return self._manifest(found["manifests"][0]["digest"]) if "manifests" in found else found


@contextmanager
def kept_registry(place: Path, port: int) -> Iterator[KeptRegistry]:
    """Run the registry in a directory."""
    place.mkdir(parents=True, exist_ok=True)
    with registry_on(place) as upstream, relay(upstream, port) as between:
        yield KeptRegistry(place, upstream, between)


def clear(place: Path) -> None:
    """Remove a rival's state; refuse if a killed run left something mounted there."""
    if place.exists():
        mounted = [
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ]
        if left := [path for path in mounted if path.startswith(f"{place}/")]:
            sys.exit(f"still mounted, umount first: {' '.join(left)}")
        remove(place)
