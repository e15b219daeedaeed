"""Several commands at once on one store and one download cache."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.chance import times
from tests.faults.tiny import Tiny


@pytest.mark.parametrize("count", [2, 8])
def test_builds_at_once(fresh: Tiny, digest: str, count: int) -> None:
    """Each file is fetched once, each layer made once, and all end in the same image."""
    fresh.index.seen.clear()
    builds = [fresh.start("build", "--json") for _ in range(count)]
    outputs = [build.communicate() for build in builds]
    assert [build.returncode for build in builds] == [0] * count, outputs
    assert {json.loads(out)["manifest_digest"] for out, _ in outputs} == {digest}
    made = [
        line.split("made ", 1)[1].rpartition(":")[0]
        for _, said in outputs
        for line in said.splitlines()
        if line.startswith("  made ")
    ]
    assert len(made) == len(set(made)) == len(fresh.recipes()) - 2
    files = [path for path in fresh.index.seen if path.startswith("/files/")]
    assert len(set(files)) == len(fresh.locked())
    assert fresh.verified()
    assert not list((fresh.store / ".roll" / "tmp").iterdir())


def test_gc_during_a_build(target: Tiny, digest: str, tmp_path: Path) -> None:
    """Either waits its turn by an error, and takes nothing that the other relies on."""
    refused = swept = 0
    most = times(1, 10)
    for attempt in range(most + 5):
        if attempt >= most and refused:
            break  # a build that came while `gc` was at work has ended before another `gc`
        tiny = target.fresh(tmp_path / str(attempt), warm=True)
        with tiny.start("build", "--json") as build:
            while build.poll() is None:
                done = tiny.run("gc")
                assert done.code in (0, 7), done.said
                refused += done.code == 7
                swept += done.code == 0
                if done.code:
                    assert "a build or a push is at work" in done.said
            out, said = build.communicate()
        if build.returncode:  # it came while gc was at work
            assert "gc is at work" in said, said
            out = tiny.run("build", "--json").out
        assert json.loads(out)["manifest_digest"] == digest
        assert tiny.verified()
        assert tiny.run("gc").code == 0
        assert tiny.build() == digest
    assert refused
    print(f"{refused} refused, {swept} swept")


def test_builds_gc_verify_and_list_at_random(
    target: Tiny, digest: str, tmp_path: Path, chance: random.Random
) -> None:
    """On a store that has the image: no other process sees a part of it."""
    tiny = target.fresh(tmp_path, warm=True)
    assert tiny.build() == digest
    commands = ("build", "gc", "verify", "list", "inspect")
    for _ in range(times(2, 20)):
        running = []
        for _ in range(6):
            name = chance.choice(commands)
            running.append((name, tiny.start(name)))
            time.sleep(chance.uniform(0, 0.2))
        for name, process in running:
            _, said = process.communicate()
            assert "Traceback" not in said, said
            allowed = (0, 7) if name in ("build", "gc") else (0,)
            assert process.returncode in allowed, (name, said)
            if process.returncode:
                assert "at work on this store" in said, (name, said)
    assert tiny.build() == digest
    assert tiny.verified()
