"""Parts that arrive one by one, in any order."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from images.unbundle import document
from tests.unit.bundles import parts, record, run, tree


@pytest.mark.parametrize("seed", range(4))
def test_parts_in_any_order_one_at_a_time(
    out: Path, tmp_path: Path, expected: object, seed: int
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(out / "unpack.py", there)
    assert run(there, "--rootfs", tmp_path / "root").code == 3
    for name in ("bundle.json", "libzstd.so.1"):
        if (out / name).exists():
            shutil.copy(out / name, there)
    queue = parts(out)
    random.Random(seed).shuffle(queue)
    for number, part in enumerate(queue, 1):
        shutil.copy(part, there)
        done = run(there, "--rootfs", tmp_path / "root", "--remove-parts")
        if number < len(queue):
            assert done.code == 3, done.said
            assert record(tmp_path / "root")["complete"] is False
            assert "run the same command again" in done.said
            assert part.name not in done.said.rpartition("missing:")[2]
        else:
            assert done.code == 0, done.said
    assert tree(tmp_path / "root") == expected
    assert parts(there) == []


def test_missing_parts_are_reported_as_ranges(out: Path, tmp_path: Path) -> None:
    names = [path.name for path in parts(out)]
    for name in (names[1], names[3], names[4], names[5], names[-1]):
        (out / name).unlink()
    wanted = f"{names[1]}, {names[3]} to {names[5]}, {names[-1]}"
    checked = run(out, "check")
    assert checked.code == 3
    assert f"missing: {wanted}\n" in checked.out
    done = run(out, "--rootfs", tmp_path / "root")
    assert done.code == 3
    assert f"5 parts missing: {wanted}\n" in done.said


def test_removing_keeps_what_an_unfinished_layer_needs(out: Path, tmp_path: Path) -> None:
    bundle = document.decode((out / "bundle.json").read_bytes())
    middle = bundle.layers[1]
    missing = parts(out)[(middle.offset + middle.length) // 100_000 - 1]
    kept = missing.read_bytes()
    missing.unlink()
    assert run(out, "--rootfs", tmp_path / "root", "--remove-parts").code == 3
    first, last = middle.offset // 100_000, (middle.offset + middle.length - 1) // 100_000
    wanted = {f"part-{number:04d}" for number in range(first, last + 1)} - {missing.name}
    assert {path.name for path in parts(out)} == wanted
    missing.write_bytes(kept)
    assert run(out, "--rootfs", tmp_path / "root", "--remove-parts").code == 0
    assert parts(out) == []
