"""A build killed at any moment: the store stays whole, the same command makes the same image."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chance import LONG, searching, times
from tests.faults.tiny import CACHE, KEPT, Tiny


def kill_after(tiny: Tiny, seconds: float, *, children: bool) -> bool:
    """Start a build and kill it, alone or with its children; whether it was still at work."""
    with tiny.start("build") as build:
        time.sleep(seconds)
        killed = build.poll() is None
        if children:
            with suppress(ProcessLookupError):  # it had ended
                os.killpg(build.pid, signal.SIGKILL)
        build.kill()
    return killed


def test_killed_at_any_moment(
    target: Tiny, digest: str, tmp_path: Path, chance: random.Random
) -> None:
    """Downloads, an sdist's build, byte code, layers and the index: from nothing each time."""
    begin = time.monotonic()
    target.fresh(tmp_path / "whole").build()
    whole = time.monotonic() - begin
    killed = 0
    for attempt in range(times(4, 50)):
        tiny = target.fresh(tmp_path / str(attempt))
        moment, children = chance.uniform(0.1, whole), chance.random() < 0.7
        print(f"attempt {attempt}: {moment:.3f} s, children too: {children}")
        killed += kill_after(tiny, moment, children=children)
        assert tiny.verified()
        assert tiny.build() == digest
        assert tiny.verified()
        assert not list((tiny.store / ".roll" / "tmp").iterdir())
        assert not list(tiny.cache.rglob("*.part"))
        shutil.rmtree(tmp_path / str(attempt))
    print(f"{killed} killed in the middle")
    assert killed


def test_killed_again_and_again(warm: Tiny, digest: str, chance: random.Random) -> None:
    """Each time a little later, on one store: what was finished is kept, so it comes to its end."""
    attempts = 0
    while True:
        attempts += 1
        if not kill_after(warm, 0.2 * attempts + chance.uniform(-0.1, 0.1), children=True):
            break
        assert warm.verified()
    assert attempts > 1
    assert warm.build() == digest
    assert warm.verified()


@pytest.mark.skipif(not searching(), reason=f"{LONG}=long: makes real bases")
def test_killed_while_the_base_is_put_together(
    target: Tiny, tmp_path: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmdebstrap and what it started go with the build; nothing stays mounted."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(temporary))
    found = set()
    for attempt in range(3):
        tiny = without_base(target, tmp_path / str(attempt))
        assert kill_after(tiny, chance.uniform(1, 12), children=True)
        time.sleep(1)
        mounts = Path("/proc/mounts").read_text()
        assert str(temporary) not in mounts
        assert str(tiny.store) not in mounts
        assert os.geteuid() != 0 or not list(temporary.iterdir())
        found.add(tiny.build())
        assert tiny.verified()
        assert not list((tiny.store / ".roll" / "tmp").iterdir())
        shutil.rmtree(tmp_path / str(attempt))
    assert len(found) == 1


def without_base(target: Tiny, place: Path) -> Tiny:
    """The target with a store that lacks the base, and the cache of all tests for its packages."""
    tiny = target.fresh(place, warm=True)
    (recipe,) = (recipe for recipe in tiny.recipes() if recipe.title == KEPT[0])
    (tiny.store / ".roll" / "layers" / recipe.key).unlink()
    for item in recipe.debs:
        (tiny.cache / item.artifact.sha256).symlink_to(CACHE / item.artifact.sha256)
    return tiny
