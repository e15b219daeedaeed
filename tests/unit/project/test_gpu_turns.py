"""Turns of several suites on one GPU."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from images.export.kit import document
from tests.gpu.turns import Turns

pytest_plugins = ["pytester"]


def waiting(turns: Turns, *, alone: bool) -> threading.Thread:
    """Begin a turn in a thread, which lives on as long as it waits."""
    thread = threading.Thread(target=lambda: turns.begin(alone=alone), daemon=True)
    thread.start()
    thread.join(0.2)
    return thread


def test_suites_run_beside_each_other_and_alone(tmp_path: Path) -> None:
    first, second, third = (Turns(tmp_path) for _ in range(3))
    first.begin(alone=False)
    assert not waiting(second, alone=False).is_alive()
    second.end()
    measures = waiting(second, alone=True)
    later = waiting(third, alone=False)
    assert measures.is_alive()
    assert later.is_alive(), "one that comes later would keep the one that must be alone waiting"
    first.end()
    measures.join()
    later.join(0.2)
    assert later.is_alive()
    second.end()
    later.join()


def test_one_suite_never_waits() -> None:
    turns = Turns(None)
    turns.begin(alone=True)
    turns.end()


EXPLAINS = """
import pytest
from tests.gpu import turns

@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    turns.explain(report)
"""


def test_a_failure_is_explained_before_the_next_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(EXPLAINS)
    pytester.makepyfile("def test_one(): assert not 'the reason'\ndef test_two(): pass")
    monkeypatch.delenv(document.TURNS, raising=False)
    alone = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider").outlines
    monkeypatch.setenv(document.TURNS, str(pytester.path))
    shared = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider").outlines

    def reasons(lines: list[str]) -> list[str]:
        two = next(number for number, line in enumerate(lines) if "::test_two" in line)
        return [line for line in lines[:two] if "the reason" in line]

    assert reasons(alone) == []
    assert reasons(shared)


CONFTEST = """
import pytest
from tests.gpu import turns

class Noted:
    def begin(self, *, alone):
        print(f"begin {alone}")

    def end(self):
        print("end")

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    return (yield from turns.protocol(Noted(), item, nextitem))

def pytest_collection_modifyitems(items):
    turns.order(items)
"""
MODULE = """
import pytest

@pytest.fixture(scope="module", autouse=True)
def engine():
    print("start")
    yield
    print("stop")

def test_one():
    print("one")

def test_two():
    print("two")
"""


def test_a_turn_is_a_modules_with_its_fixtures_and_one_of_all_that_are_alone(
    pytester: pytest.Pytester,
) -> None:
    alone = f"{MODULE}\npytestmark = pytest.mark.alone_on_gpu"
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_a=MODULE, test_b=alone, test_c=MODULE, test_d=alone)
    pytester.makeini("[pytest]\nmarkers = alone_on_gpu")
    done = pytester.runpytest_inprocess("-s", "-q", "-p", "no:cacheprovider")
    said = [line.strip(".") for line in done.outlines]
    begins = [line for line in said if line.startswith("begin")]
    assert begins == ["begin True"] * 4 + ["begin False"] * 4
    module = ["start", "one", "two", "stop"]
    seen = [word for word in said if word in (*module, "end")]
    assert seen == [*module, *module, "end", *module, "end", *module, "end"]
