"""Entries of the defaults that a new row has, and what a build would say about them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from images.inputs.lock import target_lock
from images.inputs.lock.distribution import parse_lines
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.change_rules import LeftOut, Licensed
from images.inputs.matrix.records import Matrix, Target
from images.inputs.release import default_entries

GPU_CODE = Licensed("torch", "BSD-3-Clause", "a test", "matrix.yaml:9")
LEFT_OUT = LeftOut("/opt/venv/helper.a", "helper", "a test", "matrix.yaml:10")


def line(version: str) -> str:
    return f"helper=={version} --hash=sha256:{'ab' * 32}  # helper-{version}-py3-none-any.whl 12"


@pytest.fixture
def new() -> Lock:
    return Lock(parse_lines([line("1.0")]), (), left_out=(LEFT_OUT,))


def with_old_row(matrix: Matrix, old: Target, version: str) -> Matrix:
    path = matrix.lock_path(old.id)
    path.parent.mkdir(exist_ok=True)
    path.write_text(target_lock.text_of(old, None, parse_lines([line(version)]), ()))
    return replace(matrix, targets=(old,))


def test_entry_for_a_distribution_that_is_not_locked(matrix: Matrix, new: Lock) -> None:
    bare = replace(new, distributions=(), gpu_code=(GPU_CODE,))
    found = default_entries.questions(matrix, bare)
    assert [text.partition(" is not in the lock")[0] for text in found] == [
        "matrix.yaml:9: gpu_code: torch",
        "matrix.yaml:10: left_out: helper",
    ]


def test_file_of_a_wheel_that_a_row_with_the_entry_has(
    matrix: Matrix, target: Target, new: Lock
) -> None:
    old = replace(target, left_out=(LEFT_OUT,))
    assert not list(default_entries.questions(with_old_row(matrix, old, "1.0"), new))


@pytest.mark.parametrize(("version", "entries"), [("0.9", (LEFT_OUT,)), ("1.0", ())])
def test_file_of_a_wheel_that_no_row_with_the_entry_has(
    matrix: Matrix, target: Target, new: Lock, version: str, entries: tuple[LeftOut, ...]
) -> None:
    known = with_old_row(matrix, replace(target, left_out=entries), version)
    (found,) = default_entries.questions(known, new)
    assert found.startswith("matrix.yaml:10: left_out: no other target with the entry has helper 1")


def test_row_that_is_not_locked_says_nothing(matrix: Matrix, target: Target, new: Lock) -> None:
    old = replace(matrix, targets=(replace(target, left_out=(LEFT_OUT,)),))
    assert len(list(default_entries.questions(old, new))) == 1
