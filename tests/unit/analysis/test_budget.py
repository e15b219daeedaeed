"""The size budget: nothing under it, an error above it that names what grew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from images.analysis import budget, growth, summary
from images.errors import BudgetError
from images.inputs.matrix.records import Budget, Target
from images.oci.image import Image
from tests.unit.small_matrix import SmallMatrix, wheel

TORCH = wheel("torch", 9_000_000)
NAME = "torch280-sglang052"


@pytest.fixture
def work(tmp_path: Path) -> SmallMatrix:
    work = SmallMatrix(tmp_path)
    work.write({"052": [TORCH, wheel("scipy", 5_000_000), wheel("attrs", 60_000)]})
    return work


def allowed(work: SmallMatrix, size: int) -> Target:
    return replace(work.matrix.target(NAME), budget=Budget(size, "the disk is small"))


def refused(work: SmallMatrix, image: Image, size: int) -> BudgetError:
    with pytest.raises(BudgetError) as caught:
        budget.check(allowed(work, size), image, work.store)
    return caught.value


def grown(work: SmallMatrix) -> Image:
    """Another image of the same name, not saved: scipy grew, attrs as well, and two are new."""
    before = work.store.images()[NAME]
    work.write(
        {
            "052": [
                TORCH,
                wheel("scipy", 8_000_000, "2.0"),
                wheel("attrs", 960_000, "2.0"),
                wheel("lxml", 1_500_000),
                wheel("grpcio", 2_500_000),
            ]
        }
    )
    image = work.build("052")
    assert work.store.images()[NAME] != before
    work.store.save(replace(work.store.load_digest(before), ref=NAME))
    return image


def test_image_within_its_budget_passes(work: SmallMatrix) -> None:
    image = work.build("052")
    budget.check(allowed(work, image.size), image, work.store)
    budget.check(replace(work.matrix.target(NAME), budget=None), image, work.store)


def test_image_in_gzip_has_no_budget(work: SmallMatrix) -> None:
    budget.check(allowed(work, 1), work.build("052", "gzip"), work.store)


def test_first_image_names_the_largest_layers(work: SmallMatrix) -> None:
    image = work.build("052")
    (work.store.path / "index.json").write_text('{"manifests": []}')
    error = refused(work, image, image.size - 1)
    lines = [line.strip() for line in error.message.splitlines()]
    assert f"{NAME}: " in lines[0]
    assert "1 B more than its budget" in lines[0]
    assert "(the disk is small)" in lines[0]
    assert lines[1] == "its largest layers:"
    assert [line.split("  ")[1] for line in lines[2:4]] == ["torch 1.0", "scipy 1.0"]
    assert "raise `budget` of torch280-sglang052 in matrix.yaml" in (error.remedy or "")


def test_unchanged_image_under_a_lower_budget_names_the_largest_layers(work: SmallMatrix) -> None:
    image = work.build("052")
    assert "its largest layers:" in refused(work, image, 10).message


def test_what_grew_is_named_with_both_versions_the_most_grown_first(work: SmallMatrix) -> None:
    before = work.build("052")
    lines = [line.strip() for line in refused(work, grown(work), 10).message.splitlines()]
    assert lines[1].startswith(f"what grew most since {before.manifest_digest[:19]} (")
    named = [line.split("  ", 1)[1] for line in lines[2:]]
    assert named[:3] == ["scipy 1.0 -> 2.0", "grpcio 1.0 (new)", "lxml 1.0 (new)"]
    assert "attrs 1.0 -> 2.0" in named[3]
    assert named[3].startswith("small distributions ")
    assert [line.startswith("+") for line in lines[2:]] == [True] * 4


def test_growth_is_what_came_less_what_was_there(work: SmallMatrix) -> None:
    work.build("052")
    image = grown(work)
    found = growth.growths(
        summary.of_image(NAME, work.store.load(NAME)), summary.of_image(NAME, image), work.store
    )
    scipy = [layer.blob.size for layer in image.layers if layer.title == "scipy 2.0"]
    old = [x.blob.size for x in work.store.load(NAME).layers if x.title == "scipy 1.0"]
    assert found[0].bytes == scipy[0] - old[0] > 2900


def test_budget_changes_neither_lock_nor_layers_nor_image(work: SmallMatrix) -> None:
    locked = {"052": [TORCH, wheel("scipy", 5_000_000)]}
    work.write(locked)
    image, inputs = work.build("052"), work.matrix.target(NAME).resolve_inputs()
    work.write(locked, {"052": "1GB"})
    assert work.matrix.target(NAME).budget == Budget(10**9, "the disk is small")
    assert work.matrix.target(NAME).resolve_inputs() == inputs
    assert work.build("052").manifest_digest == image.manifest_digest
