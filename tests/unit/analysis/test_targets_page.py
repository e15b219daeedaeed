"""docs/targets.md: it is what the matrix, the locks and the evidence say."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from images.analysis import targets_page
from images.inputs.lock import target_lock
from images.inputs.matrix.load import load
from images.inputs.matrix.records import Budget, Matrix
from images.repository import ROOT

PAGE = ROOT / "docs" / "targets.md"


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    return load(ROOT / "matrix.yaml")


def test_the_page_is_that_of_the_matrix(matrix: Matrix) -> None:
    renew = "python -m images.analysis.targets_page > docs/targets.md"
    assert PAGE.read_text(encoding="utf-8") == targets_page.text(matrix), f"renew it: {renew}"


def test_every_row_is_in_the_table_and_in_the_picture(matrix: Matrix) -> None:
    text = targets_page.text(matrix)
    rows = [target for target in matrix.targets if not target.flavour]
    assert re.findall(r"^\| `(torch\S+)` \| \d", text, re.MULTILINE) == [row.id for row in rows]
    for row in rows:
        assert f'{row.id.partition("-")[2]}["{row.sglang}<br/>' in text
    assert text.count("-->|") == len(rows) - 1


def test_an_upgrade_costs_the_wheels_that_are_in_the_later_lock_alone(matrix: Matrix) -> None:
    older, newer = (matrix.target(f"torch280-sglang{number}") for number in ("054", "055"))
    have, want = (target_lock.read(matrix, target).distributions for target in (older, newer))
    known = {item.artifact.sha256 for item in have}
    new = sum(item.artifact.size for item in want if item.artifact.sha256 not in known)
    (line,) = re.findall(
        r"^\| `torch280-sglang054` \| .*$", targets_page.text(matrix), re.MULTILINE
    )[1:]
    assert f"| the same | {new / 1e6:.0f} MB |" in line


def test_size_is_what_the_budget_was_set_by(matrix: Matrix) -> None:
    target = matrix.target("torch280-sglang052")
    assert targets_page.measured(target) == "3.29 GB"
    estimated = Budget(size=1, why="not measured; estimated")
    assert targets_page.measured(replace(target, budget=estimated)) == "not measured"
