"""Disks that are full, read-only or several, and paths with anything in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chance import times
from tests.faults.disks import disk, remount
from tests.faults.tiny import TARGET, Tiny

ROOM = "size=64m,nr_inodes=100000"


def steps(low: int, high: int, count: int) -> list[int]:
    """Numbers from low to high, the same factor apart."""
    return [round(low * (high / low) ** (step / (count - 1))) for step in range(count)]


def full_then_room(tiny: Tiny, place: Path, options: str, digest: str, reported: str) -> bool:
    """Build on a disk that may be too small, then with room; whether it was too small."""
    done = tiny.run("build")
    assert done.code in (0, 7), done.said
    if done.code:
        assert reported in done.said, (options, done.said)
        assert "fix: " in done.said
    assert tiny.verified()
    remount(place, ROOM)
    assert tiny.build() == digest
    assert tiny.verified()
    assert not list((tiny.store / ".roll" / "tmp").iterdir())
    return bool(done.code)


@pytest.mark.parametrize(
    ("unit", "low", "high"), [("size={}k", 72, 4000), ("size=64m,nr_inodes={}", 28, 120)]
)
def test_store_on_a_disk_that_fills_up(
    target: Tiny, digest: str, tmp_path: Path, unit: str, low: int, high: int
) -> None:
    """At each stage: the disk has a little more room, in bytes or in files, each time."""
    failed = 0
    numbers = steps(low, high, times(3, 40))
    for number in numbers:
        with disk(tmp_path / str(number), unit.format(number)) as place:
            tiny = replace(target, store=place / "store", cache=tmp_path / f"cache{number}")
            tiny.fill_store()
            tiny.fill_cache(warm=True)
            failed += full_then_room(tiny, place, unit.format(number), digest, "holds the store")
    assert failed > len(numbers) // 4


def test_cache_on_a_disk_that_fills_up(target: Tiny, digest: str, tmp_path: Path) -> None:
    failed = 0
    numbers = steps(12, 2200, times(3, 30))
    for number in numbers:
        with disk(tmp_path / str(number), f"size={number}k") as place:
            tiny = replace(target, store=tmp_path / f"store{number}", cache=place / "cache")
            tiny.fill_store()
            tiny.fill_cache(warm=False)
            failed += full_then_room(
                tiny, place, f"size={number}k", digest, "holds the download cache"
            )
    assert failed > len(numbers) // 4


def test_no_room_for_uvs_cache(fresh: Tiny, digest: str, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=4k") as place:
        (place / "full").write_bytes(bytes(4096))
        tiny = replace(fresh, env={"UV_CACHE_DIR": str(place)})
        done = tiny.run("build")
        assert done.code == 7, done.said
        assert "no space left" in done.said
        assert "UV_CACHE_DIR" in done.said
        assert tiny.verified()
        remount(place, ROOM)
        assert tiny.build() == digest


def test_no_room_for_temporary_files_is_no_hindrance(
    fresh: Tiny, digest: str, tmp_path: Path
) -> None:
    """Large files are in the store; for others Python takes another directory."""
    with disk(tmp_path / "disk", "size=4k") as place:
        (place / "full").write_bytes(bytes(4096))
        assert replace(fresh, env={"TMPDIR": str(place)}).build() == digest


def test_lock_on_a_full_disk_leaves_the_old_one(target: Tiny, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=16k") as place:
        (place / "matrix.yaml").write_bytes(target.matrix.read_bytes())
        tiny = replace(target, place=place, env={"UV_CACHE_DIR": str(target.place / "uv")})
        assert tiny.run("lock").code == 0
        before = tiny.lock.read_bytes()
        text = tiny.matrix.read_text()
        tiny.matrix.write_text(text.replace("why: as in the real target\n", "why: x\n"))
        tiny.matrix.write_text(text.replace("2025-09-16", "2025-09-17"))
        (place / "full").write_bytes(bytes(os.statvfs(place).f_bavail * 4096))
        done = tiny.run("lock")
        assert done.code == 7, done.said
        assert "No space left" in done.said
        assert tiny.lock.read_bytes() == before
        assert sorted(path.name for path in place.iterdir()) == [
            "full",
            "matrix.yaml",
            f"{TARGET}.txt",
        ]


def test_read_only_store_can_be_read_and_not_written(
    target: Tiny, digest: str, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk") as place:
        tiny = target.fresh(place, warm=True)
        assert tiny.build() == digest
        remount(place, "ro")
        for command in ("list", "inspect", "verify"):
            done = tiny.run(command)
            assert done.code == 0, done.said
        done = tiny.run("bundle", "--out", str(tmp_path / "bundle"))
        assert done.code == 0, done.said
        for command in ("build", "gc"):
            done = tiny.run(command)
            assert done.code == 7, done.said
            assert "Read-only file system" in done.said
            assert "--store DIR" in done.said
        assert tiny.verified()


def test_read_only_cache_is_enough_where_it_is_full(
    target: Tiny, digest: str, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk") as place:
        tiny = replace(target, store=tmp_path / "store", cache=place / "cache")
        tiny.fill_store()
        tiny.fill_cache(warm=True)
        remount(place, "ro")
        assert tiny.build() == digest
        remount(place, "rw")
        lacking = replace(tiny, store=tmp_path / "other", cache=place / "empty")
        lacking.fill_store()
        lacking.fill_cache(warm=False)
        remount(place, "ro")
        done = lacking.run("build")
        assert done.code == 7, done.said
        assert "Read-only file system" in done.said
        assert "--cache DIR" in done.said


def test_store_cache_and_temporary_files_on_three_disks(
    target: Tiny, digest: str, tmp_path: Path
) -> None:
    with disk(tmp_path / "a") as first, disk(tmp_path / "b") as other, disk(tmp_path / "c") as last:
        env = {"TMPDIR": str(last)}
        tiny = replace(target, store=first / "store", cache=other / "cache", env=env)
        tiny.fill_store()
        tiny.fill_cache(warm=False)
        assert tiny.build() == digest
        assert tiny.verified()
        assert not list(last.iterdir())


NAMES: dict[str, str | bytes] = {
    "spaces and unicode": "  two  spaces, ünïcødé 文件 🦥",
    "shell": "-rf quote' \" $HOME `id` ; & * ? [x] \\ %s {0} a:b@c#d new\nline\ttab",
    "bytes": b"no utf-8 \xff\xfe",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_any_path_will_do(target: Tiny, digest: str, tmp_path: Path, name: str | bytes) -> None:
    """For store and cache, beside each other, with output that is for people."""
    tiny = target.fresh(tmp_path / os.fsdecode(name), warm=True)
    done = tiny.run("build")
    assert done.code == 0, done.said
    assert digest in done.out
    for command in ("inspect", "verify", "gc"):
        assert tiny.run(command).code == 0
    assert tiny.build() == digest


Spoil = Callable[[Path], object]


@pytest.mark.parametrize(
    ("spoil", "reported"),
    [
        (lambda place: place.write_text("a file"), "not an OCI image layout"),
        (lambda place: place.symlink_to("itself"), "store cannot be used"),
        (lambda place: place.symlink_to("nowhere/at/all"), "store"),
    ],
    ids=["file", "loop", "dangling"],
)
def test_place_that_cannot_be_a_store(
    target: Tiny, tmp_path: Path, spoil: Spoil, reported: str
) -> None:
    place = tmp_path / "itself"
    spoil(place)
    done = replace(target, store=place, cache=tmp_path / "cache").run("build")
    assert done.code == 7, done.said
    assert reported in done.said


def test_cache_that_no_program_may_run_from_is_found_before_anything_is_fetched(
    target: Tiny, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk", "size=64m,noexec") as place:
        tiny = target.fresh(place, warm=False)
        done = tiny.run("build")
        assert done.code == 8, done.said
        assert "mounted noexec" in done.said
        assert "--cache DIR" in done.said
        assert [path.name for path in tiny.cache.iterdir()] == ["interpreters"]


def test_where_the_loader_would_read_a_path_in_its_own_way_layers_are_the_same(
    target: Tiny, digest: str, tmp_path: Path
) -> None:
    """The image's Python is in the cache; ld.so splits at `:` and `;`, and expands `$LIB`."""
    tiny = target.fresh(tmp_path / "a:b;c $LIB $ORIGIN", warm=True)
    real = (tiny.cache / "interpreters").resolve()
    (tiny.cache / "interpreters").unlink()
    shutil.copytree(real, tiny.cache / "interpreters", symlinks=True)
    assert tiny.build() == digest
