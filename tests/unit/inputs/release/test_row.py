"""The date, the budget and the neighbours of a new row."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from images.errors import UsageError
from images.inputs.matrix.load import load
from images.inputs.release import row
from images.repository import ROOT

RELEASED = datetime(2026, 10, 30, 1, 34, 37, tzinfo=timezone.utc)


def test_cut_off_is_five_days_after_the_release() -> None:
    found = row.cut_off("0.5.23", RELEASED, RELEASED + timedelta(days=30))
    assert (found.text, found.early) == ("2026-11-04", False)
    assert found.why.startswith("five days after 0.5.23")


def test_cut_off_is_never_in_the_future() -> None:
    found = row.cut_off("0.5.23", RELEASED, RELEASED + timedelta(hours=3))
    assert (found.text, found.early) == ("2026-10-30T04:34:37Z", True)


def test_given_date_is_between_release_and_now() -> None:
    now = RELEASED + timedelta(days=30)
    assert row.cut_off("0.5.23", RELEASED, now, "2026-11-10").text == "2026-11-10"
    for wrong in ("2026-10-30", "2027-01-01", "soon"):
        with pytest.raises(UsageError):
            row.cut_off("0.5.23", RELEASED, now, wrong)


def test_neighbours_are_the_nearest_plain_rows() -> None:
    matrix = load(ROOT / "matrix.yaml")
    older, newer = row.neighbours(matrix, "0.5.3")
    assert older
    assert newer
    assert (older.id, newer.id) == ("torch280-sglang052", "torch280-sglang054")
    assert row.neighbours(matrix, "0.1")[0] is None
    with pytest.raises(UsageError, match="is a target already: torch280-sglang052"):
        row.neighbours(matrix, "0.5.2")


def test_id_has_the_suffix_where_another_row_has_the_short_one() -> None:
    matrix = load(ROOT / "matrix.yaml")
    assert row.new_id(matrix, "2.8.0", "0.5.3") == "torch280-sglang053"
    assert row.new_id(matrix, "2.8.0", "0.5.2.post1") == "torch280-sglang052post1"


def test_id_of_another_row_is_refused() -> None:
    matrix = load(ROOT / "matrix.yaml")
    with pytest.raises(UsageError, match=r"the id of SGLang 0\.5\.2"):
        row.new_id(matrix, "2.8.0", "0.5.2")


def test_budget_grows_with_the_wheels_and_does_not_shrink() -> None:
    other = load(ROOT / "matrix.yaml").target("torch280-sglang052")
    assert row.budget(5_000_000_000, other, 4_900_000_000)[0] == "3.5GB"
    assert row.budget(4_000_000_000, other, 4_900_000_000)[0] == "3.4GB"
    assert row.budget(4_010_000_000, None, None)[0] == "4.05GB"
