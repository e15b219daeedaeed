"""What the tests of an image look for in its files: names of this machine, whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image import test_hygiene

ONE, TWO = "https://one.example/simple", "https://u:p4ss@two.example/"


def test_path_with_a_space_is_one_needle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A part of it, such as `images`, stands in many files by chance."""
    place = tmp_path / "my images"
    place.mkdir()
    monkeypatch.chdir(place)
    found = test_hygiene.needles(place / "a store").values()
    assert {str(place), f"{place}/a store"} <= set(found)
    assert not {"images", "store", str(place).partition(" ")[0]} & set(found)


def test_variable_of_several_addresses_is_several_needles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{ONE} {TWO}")
    found = set(test_hygiene.needles(Path("/store")).values())
    assert {ONE, TWO, "p4ss"} <= found
