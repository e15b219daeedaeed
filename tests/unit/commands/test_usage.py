"""docs/commands.md and the end of the help: their statements on the commands are true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import build
from images import errors
from images.commands import reference, usage
from images.errors import BuildError
from images.repository import ROOT
from images.util import interrupts
from tests.unit import shell_commands

DOCUMENT = ROOT / "docs" / "commands.md"
INTERFACE = json.loads(Path(__file__).with_name("interface.json").read_text(encoding="utf-8"))


def test_the_document_is_that_of_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the defaults of this machine are."""
    monkeypatch.setenv("ROLL_IMAGES_CACHE", "/some/cache")
    monkeypatch.setenv("ROLL_IMAGES_DEBIAN_MIRROR", "http://mirror.example.com/debian")
    monkeypatch.setattr("os.cpu_count", lambda: 99)
    renew = "python -m images.commands.reference > docs/commands.md"
    assert DOCUMENT.read_text(encoding="utf-8") == reference.text(), f"renew it: {renew}"


def test_the_document_has_the_keys_of_the_json_documents() -> None:
    found = {name: one for name, one in INTERFACE["documents"].items() if "," not in name}
    keys = {name.split()[0]: list(document) for name, document in found.items()}
    assert {name: keys.split() for name, keys in reference.DOCUMENTS.items()} == keys


def test_each_error_has_an_exit_code_with_a_meaning() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {one.exit_code for one in classes if issubclass(one, BuildError)}
    assert {0, *codes, interrupts.EXIT_CODE} == set(usage.EXIT_CODES)


def test_the_examples_can_be_run() -> None:
    for line, _ in usage.EXAMPLES:
        assert shell_commands.fault(["build.py", *line.split()]) is None, line


def test_the_end_of_the_help_fits_a_terminal() -> None:
    lines = build.parser().format_help().partition("exit codes:")[2].splitlines()
    assert max(map(len, lines)) <= 100
