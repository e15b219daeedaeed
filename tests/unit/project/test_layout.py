"""Where tests are: beside their module's name, or where tests/unit/README.md says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from images.repository import ROOT

TESTS = ROOT / "tests"
MODULES = {
    path.relative_to(ROOT / "images").with_suffix("").as_posix()
    for path in (ROOT / "images").rglob("*.py")
    if path.name != "__init__.py"
}
REPEATED = {"conftest.py", "test_identity.py"}
"""The second is in tests/gpu and tests/roll: evidence names tests by their files."""


def own_test(module: str) -> Path:
    """Return where the tests of a module are, if it has a file of its own."""
    path = Path(module)
    return TESTS / "unit" / path.parent / f"test_{path.name}.py"


def rows() -> dict[str, list[str]]:
    """Return the modules that are tested elsewhere, and where."""
    text = (TESTS / "unit" / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `([\w/]+)` \| (.*) \|$", text, re.MULTILINE)
    return {module: re.findall(r"`([\w/.]+)`", where) for module, where in found}


def test_tests_of_each_module_are_found() -> None:
    assert len(MODULES) > 150
    assert {module for module in MODULES if not own_test(module).is_file()} == set(rows())


def test_tests_that_the_table_names_exist() -> None:
    assert not [path for paths in rows().values() for path in paths if not (TESTS / path).exists()]
    assert all(rows().values())


def test_a_file_name_occurs_once() -> None:
    names = Counter(path.name for path in TESTS.rglob("*.py"))
    assert not [name for name, count in names.items() if count > 1 and name not in REPEATED]
