"""The installed distributions are the locked ones."""

from __future__ import annotations

import re

import pytest

from images.attest import verdict
from tests.image.box import Box
from tests.image.known import CONFLICTS, ROLL_CONFLICTS
from tests.image.subject import RUNTIME, Subject

INSTALLED = """
import importlib.metadata, json, re
found = [(re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower(), item.version)
         for item in importlib.metadata.distributions()]
print(json.dumps(sorted(found)))
"""

# Distribution to the module that has its version.
NAMED = {
    "torch": "torch",
    "sglang": None,  # importing it takes seconds, and its engine has a test of its own
    "flashinfer-python": None,  # needs a driver to be imported
    "sgl-kernel": None,
    "sglang-kernel": None,  # its name from SGLang 0.5.10 on
    "transformers": "transformers",
    "cuda-bindings": None,
    RUNTIME: "roll_runtime",
}


def test_all_distributions_are_those_of_the_lock(box: Box, subject: Subject) -> None:
    found = box.ask(INSTALLED)
    names = [name for name, _ in found]
    assert len(set(names)) == len(names), "a distribution is installed twice"
    assert dict(found) == subject.versions


@pytest.mark.parametrize("name", NAMED)
def test_version_is_the_locked_one(box: Box, subject: Subject, name: str) -> None:
    subject.need(name)
    locked, module = subject.versions[name], NAMED[name]
    code = f"import importlib.metadata as m, json; print(json.dumps(m.version({name!r})))"
    assert box.ask(code) == locked
    if module is not None:
        found = box.ask(f"import {module}, json; print(json.dumps({module}.__version__))")
        assert found.partition("+")[0] == locked.partition("+")[0]


def test_versions_are_those_of_the_matrix(subject: Subject) -> None:
    for name in ("torch", "sglang"):
        if name in subject.versions:
            assert subject.versions[name] == getattr(subject.target, name)


def test_dependencies_fit(box: Box, subject: Subject) -> None:
    """`pip check`; upstream's own contradictions are listed, and must still be there."""
    if not subject.target.dependencies:
        pytest.skip("this target's lock leaves dependencies out, on purpose")
    subject.need("pip")
    lines = box.attempt("python -m pip check").stdout.splitlines()
    conflicts = {line for line in lines if not line.startswith("No broken requirements")}
    names = {subject.target.id, subject.target.engine}
    known = {line for line in CONFLICTS if names & {*CONFLICTS[line].targets}}
    if verdict.needs_roll(subject.target.id):
        known |= {line.format(numpy=subject.versions["numpy"]) for line in ROLL_CONFLICTS}
    assert conflicts - known == set(), "conflicts that are not known"
    assert known - conflicts == set(), "known conflicts that are gone: take them off the list"


def test_python_is_the_matrix_version(box: Box, subject: Subject) -> None:
    version = box.run("python --version").split()[1]
    assert re.match(re.escape(subject.target.python) + r"\.", version)
    assert box.run("python -c 'import sys; print(sys.prefix)'").strip() == "/opt/venv"
