"""Target locks: lines, staleness, and what is refused when one is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from images.errors import LockError
from images.inputs.lock import sealed_text, target_lock
from images.inputs.matrix.records import Matrix, Pin, Sdist, Target

SHA = "ab" * 32
LINE = f"demo==1.0 --hash=sha256:{SHA}  # demo-1.0-py3-none-any.whl 12"


def write(matrix: Matrix, target: Target, lines: list[str]) -> Path:
    path = matrix.lock_path(target.id)
    path.parent.mkdir(exist_ok=True)
    path.write_text(sealed_text.seal(target_lock.inputs_of(target), lines))
    return path


def test_lock_is_read_with_its_build_lines(matrix: Matrix, target: Target) -> None:
    write(matrix, target, [LINE, f"# build {LINE.replace('demo', 'tool')}"])
    found = target_lock.read(matrix, target)
    assert [item.name for item in found.distributions] == ["demo"]
    assert [item.name for item in found.build] == ["tool"]


def test_missing_edited_and_broken_locks_name_their_remedy(matrix: Matrix, target: Target) -> None:
    remedy = f"python build.py lock --target {target.id}"
    for lines, message in (
        (None, "no such lock"),
        ([LINE, "broken"], "not a locked distribution: broken"),
        (["# build broken"], "not a locked distribution: broken"),
    ):
        if lines is not None:
            write(matrix, target, lines)
        with pytest.raises(LockError, match=message) as error:
            target_lock.read(matrix, target)
        assert error.value.remedy == remedy
    path = write(matrix, target, [LINE])
    path.write_text(path.read_text().replace("12", "13"))
    with pytest.raises(LockError, match="edited by hand"):
        target_lock.read(matrix, target)


@pytest.mark.parametrize(
    "change",
    [
        {"requirements": ("demo", "other")},
        {"constraints": (Pin("demo<2", "why"),)},
        {"overrides": (Pin("demo==1", "why"),)},
        {"exclude_newer": "2020-01-01T00:00:00Z"},
        {"sdists": (Sdist("demo", ("tool==1",), "why"),)},
        {"dependencies": False},
        {"python": "3.12"},
        {"platform_tag": "x86_64-manylinux_2_28"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_lock_is_stale_after_each_change_of_its_inputs(
    matrix: Matrix, target: Target, change: dict[str, object]
) -> None:
    write(matrix, target, [LINE])
    changed = dataclasses.replace(target, **change)  # type: ignore[arg-type]
    with pytest.raises(LockError, match=r"lock is stale: matrix\.yaml changed") as error:
        target_lock.read(matrix, changed)
    assert error.value.remedy == f"python build.py lock --target {target.id}"


def test_lock_is_not_stale_after_other_changes(matrix: Matrix, target: Target) -> None:
    write(matrix, target, [LINE])
    changed = dataclasses.replace(target, env=(), line=999, exclude_newer_why="another reason")
    assert target_lock.read(matrix, changed).distributions
