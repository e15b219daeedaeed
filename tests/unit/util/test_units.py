"""Bytes as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.util import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("60MB", 60_000_000), ("60 MB", 60_000_000), ("512MiB", 512 << 20),
     ("2g", 2 * 10**9), ("4.3GB", 4_300_000_000), ("0.5kB", 500), ("1.5KiB", 1536), ("10 b", 10)],
)  # fmt: skip
def test_sizes(text: str, expected: int) -> None:
    assert units.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "0", "0GB", "-1", "1.5", "0.0001KB", "MB", "1 2", "60XB", "٦MB", "1e9", "1,5GB", " 1",
     "1  MB", "9" * 13, "1.GB", ".5GB", "1\nMB"],
)  # fmt: skip
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        units.parse(text)


@given(st.integers(1, 10**9), st.sampled_from(sorted(units.UNITS)))
def test_whole_numbers_of_any_unit(number: int, unit: str) -> None:
    assert units.parse(f"{number}{unit}") == number * units.UNITS[unit]


@given(st.text())
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert units.parse(text) > 0
