"""The lock of a flavour, made with the real uv and index: the engine's versions stay."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from images.build import grouping
from images.errors import LockError
from images.inputs.lock import target_lock
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Matrix, Pin, Target
from images.inputs.resolve import target_locks
from images.oci.image import MAX_LAYERS
from images.repository import ROOT


@pytest.fixture
def engine(matrix: Matrix, target: Target, tmp_path: Path) -> Matrix:
    """A matrix whose first target has an engine of two distributions, locked."""
    plain = dataclasses.replace(
        target,
        requirements=("attrs==23.2.0", "six==1.16.0"),
        exclude_newer="2024-06-01T00:00:00Z",
    )
    found = dataclasses.replace(matrix, targets=(plain,))
    assert target_locks.write(found, plain, tmp_path)
    return found


def flavour(engine: Matrix, *requirements: str, overrides: tuple[str, ...] = ()) -> Target:
    (plain,) = engine.targets
    return dataclasses.replace(
        plain,
        id=f"{plain.id}-roll",
        flavour="roll",
        engine=plain.id,
        requirements=(*plain.requirements, *requirements),
        overrides=tuple(Pin(text, "a reason") for text in overrides),
        exclude_newer="2025-06-01T00:00:00Z",
    )


def pins(engine: Matrix, roll: Target) -> list[str]:
    return [item.pin for item in target_lock.read(engine, roll).distributions]


def test_flavour_keeps_the_engines_files_and_adds_newer_ones(
    engine: Matrix, tmp_path: Path
) -> None:
    roll = flavour(engine, "python-dateutil==2.9.0.post0", "colorama")
    assert target_locks.write(engine, roll, tmp_path)
    assert pins(engine, roll) == [
        "attrs==23.2.0",
        "colorama==0.4.6",
        "python-dateutil==2.9.0.post0",
        "six==1.16.0",
    ]
    found = target_lock.read(engine, roll)
    assert found.added == {"colorama", "python-dateutil"}
    assert found.of_engine() == target_lock.read(engine, engine.targets[0]).distributions


def test_requirement_that_changes_an_engines_version_is_refused_with_both_ways_out(
    engine: Matrix, tmp_path: Path
) -> None:
    roll = flavour(engine, "outcome==1.3.0.post0", "jsonschema==4.23.0", "referencing==0.36.2")
    target_locks.write(engine, roll, tmp_path)  # these fit
    roll = flavour(engine, "six==1.17.0")
    with pytest.raises(LockError, match=r"(?s)'roll' .*a flavour keeps.*six==1\.1[67]\.0") as error:
        target_locks.write(engine, roll, tmp_path)
    assert "two ways out" in (error.value.remedy or "")
    assert "{locked}" in (error.value.remedy or "")


def test_unpublished_requirement_is_no_conflict_with_the_engine(
    engine: Matrix, tmp_path: Path
) -> None:
    roll = flavour(engine, "six>=99")
    with pytest.raises(LockError, match="a flavour keeps"):
        target_locks.write(engine, roll, tmp_path)
    roll = flavour(engine, "colorama==99")
    with pytest.raises(LockError, match=r"(?s)^torch\S+-roll: .*colorama") as error:
        target_locks.write(engine, roll, tmp_path)
    assert "a flavour keeps" not in error.value.message


def test_override_keeps_or_changes_the_engines_version(engine: Matrix, tmp_path: Path) -> None:
    roll = flavour(engine, "six>=1.17", overrides=("six=={locked}",))
    target_locks.write(engine, roll, tmp_path)
    assert "six==1.16.0" in pins(engine, roll)
    roll = flavour(engine, overrides=("six==1.17.0",))
    target_locks.write(engine, roll, tmp_path)
    assert "six==1.17.0" in pins(engine, roll)
    assert target_lock.read(engine, roll).added == frozenset()


def test_override_of_what_the_engine_lacks_is_refused(engine: Matrix, tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"engine's version of colorama, and its lock has none"):
        target_locks.write(engine, flavour(engine, overrides=("colorama=={locked}",)), tmp_path)


def test_flavour_is_stale_when_its_engine_is_locked_anew(engine: Matrix, tmp_path: Path) -> None:
    roll = flavour(engine, "colorama")
    target_locks.write(engine, roll, tmp_path)
    (plain,) = engine.targets
    newer = dataclasses.replace(plain, requirements=("attrs==23.2.0", "six==1.15.0"))
    changed = dataclasses.replace(engine, targets=(newer,))
    target_locks.write(changed, newer, tmp_path)
    with pytest.raises(LockError, match=f"or the lock of {plain.id} changed since"):
        target_lock.read(changed, roll)
    assert not target_lock.is_current(changed, roll)


REAL = load(ROOT / "matrix.yaml")
FLAVOURS = [row for row in REAL.targets if row.flavour]


@pytest.mark.parametrize("roll", FLAVOURS, ids=lambda roll: roll.id)
def test_real_flavour_changes_no_file_of_its_engine_and_fits_into_an_image(roll: Target) -> None:
    found = target_lock.read(REAL, roll)
    engine = target_lock.read(REAL, REAL.target(roll.engine))
    assert found.of_engine() == engine.distributions
    groups = grouping.groups(found.of_engine())
    added = grouping.added_groups(found.of_flavour(), roll.flavour, found.compiled)
    # Beside them: base, compiler, links, Debian packages, roll_runtime; and room for two more.
    assert len(groups) + len(added) + 5 <= MAX_LAYERS - 2
    titles = [group.name.title for group in (*groups, *added)]
    assert len(set(titles)) == len(titles)
