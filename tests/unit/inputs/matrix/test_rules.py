"""Versions and requirements are read as `packaging` reads them."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from images.inputs.matrix import rules

NUMBERS = st.integers(0, 12)


@st.composite
def versions(draw: st.DrawFn, *, final: bool = False) -> str:
    text = ".".join(str(draw(NUMBERS)) for _ in range(draw(st.integers(1, 4))))
    if not final:
        for part in ("a", "rc", ".post", ".dev"):
            if draw(st.integers(0, 3)) == 0 and not (part == "rc" and "a" in text):
                text += f"{part}{draw(NUMBERS)}"
    return text


CLAUSES = st.tuples(st.sampled_from([">=", "<", "<=", "==", ">", "!="]), versions(final=True))


@given(st.lists(CLAUSES, min_size=1, max_size=3), versions())
def test_matches_is_what_packaging_says(parts: list[tuple[str, str]], version: str) -> None:
    spec = ",".join(operator + bound for operator, bound in parts)
    wanted = SpecifierSet(spec).contains(version, prereleases=True)
    assert rules.specifier(spec) is None
    assert rules.matches(spec, version) == wanted


@given(versions())
def test_a_plain_version_is_one_of_packaging(version: str) -> None:
    assert rules.version(version) is None
    assert str(Version(version)) == version


@given(
    st.text(alphabet=string.ascii_letters + string.digits + "-_.[],<>=! @;()'\"+*~", max_size=24)
)
def test_an_accepted_requirement_is_one_of_packaging(text: str) -> None:
    if rules.requirement(text) is None:
        Requirement(text)
