"""Files that two distributions install: what conflicts, who wins, and what is left out for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from images.build import grouping, titles
from images.build.conflicts import (
    detection,
    image_files,
    left_out,
    messages,
    target_files,
    wheel_files,
)
from images.build.conflicts.detection import Conflict, InstalledFiles, Tree
from images.inputs.lock import target_lock
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution
from images.inputs.matrix.conflict_rules import THE_IMAGE, Rule
from images.inputs.matrix.load import load
from images.repository import ROOT
from tests.unit.wheels import write_wheel

ORDER = (THE_IMAGE, "low", "middle", "high")
SITE = "opt/venv/lib/python3.11/site-packages"


def files_of(owner: str, files: Mapping[str, str] | list[str]) -> InstalledFiles:
    """An owner's files, by path and hash; a list has the owner's content everywhere."""
    hashes = files if isinstance(files, Mapping) else dict.fromkeys(files, owner)
    return InstalledFiles(
        owner, tuple(hashes), lambda paths: {path: hashes[path] for path in paths}
    )


def compared(*every: InstalledFiles) -> list[Conflict]:
    tree = Tree(ORDER, {})
    return [one for item in every for one in tree.add(item)]


def rule(path: str = "/*", winner: str = "high", over: str = "low") -> Rule:
    return Rule(path, winner, over, "because", "matrix.yaml:1")


def test_other_content_at_one_path_is_a_conflict_and_the_same_is_none() -> None:
    same = {"a/__init__.py": "", "a/data": "1"}
    found = compared(
        files_of("low", {**same, "a/__init__.py": "empty"}),
        files_of("high", {"a/__init__.py": "empty", "a/data": "2"}),
    )
    assert found == [Conflict("a/data", "a/data", "low", "high", "other content")]


def test_the_order_of_layers_decides_who_is_above_not_that_of_arrival() -> None:
    for first, second in (("low", "high"), ("high", "low")):
        (found,) = compared(files_of(first, ["x"]), files_of(second, ["x"]))
        assert (found.lower, found.upper) == ("low", "high")


def test_each_two_of_three_are_a_conflict() -> None:
    found = compared(*(files_of(owner, ["x"]) for owner in ORDER[1:]))
    assert {(one.lower, one.upper) for one in found} == {
        ("low", "middle"), ("low", "high"), ("middle", "high"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second"),
    [(["a/tool"], ["a/tool/x", "a/tool/y"]), (["a/tool/x", "a/tool/y"], ["a/tool"]),
     (["a/m.py"], ["a/__pycache__"]), (["a/__pycache__"], ["a/m.py"]),
     (["a/m.py"], ["a/m.py/deep/x"])],
)  # fmt: skip
def test_a_file_where_another_needs_a_directory_is_a_conflict(
    first: list[str], second: list[str]
) -> None:
    (found,) = compared(files_of("low", first), files_of("high", second))
    assert "directory" in found.what


def test_names_that_differ_in_case_alone_are_a_conflict() -> None:
    (found,) = compared(files_of("low", ["A/Tool.py"]), files_of("high", ["a/tool.py"]))
    assert {found.path, found.other} == {"A/Tool.py", "a/tool.py"}
    assert compared(files_of("low", ["A/one"]), files_of("high", ["a/two"])) == []


def test_wheels_that_many_targets_have_in_common_are_read_once(tmp_path: Path) -> None:
    wheels = {
        name: write_wheel(tmp_path, {"shared.py": name.encode()}, name=name)
        for name in ("low", "high")
    }

    def compare() -> list[Conflict]:
        every = (wheel_files.of(path, name, misrecorded=False) for name, path in wheels.items())
        return compared(*every)

    (found,) = compare()
    for path in wheels.values():
        path.unlink()
    assert compare() == [found]


def test_targets_of_the_same_files_are_compared_once(tmp_path: Path) -> None:
    rows = load(ROOT / "matrix.yaml")
    plain, roll = (row for row in rows.targets if row.id.startswith("torch280-sglang052"))
    passed: set[object] = set()
    for target, number in ((plain, 1), (replace(plain, id="another"), 1), (roll, 2)):
        target_files.compare(
            target, target_lock.read(rows, plain if number == 1 else roll), tmp_path, passed
        )
        assert len(passed) == number


def test_the_images_own_files_conflict_with_any_others() -> None:
    own, hidden = image_files.of("12.4"), image_files.hidden("12.4")
    for path in (
        "opt/venv/bin/python", "opt/venv/bin/python3.11", "opt/venv/pyvenv.cfg",
        f"{SITE}/roll_runtime.pth", f"{SITE}/roll_runtime/__init__.py", "opt/venv/bin/nvcc",
        "opt/venv/bin/ptxas", "opt/venv/bin", "opt/venv/lib", f"{SITE}/roll_runtime",
    ):  # fmt: skip
        tree = Tree(ORDER, hidden)
        tree.add(InstalledFiles(THE_IMAGE, own))
        (found,) = tree.add(files_of("high", [path]))
        assert (found.lower, found.upper) == (THE_IMAGE, "high"), path
    assert hidden["opt/venv/bin/nvcc"] == "usr/local/cuda/bin/nvcc"


def test_a_rule_settles_its_two_distributions_and_its_paths_alone() -> None:
    found = compared(files_of("low", ["a/x", "b/x"]), files_of("high", ["a/x", "b/x"]))
    left = detection.unsettled(found, [rule("/a/*")])
    assert [one.path for one in left] == ["b/x"]
    assert detection.unsettled(found, [rule("/a/*", "low", "high"), rule("/b/x")]) == []
    assert len(detection.unsettled(found, [rule(winner="middle")])) == 2


def test_a_rule_that_settles_nothing_is_found_once_both_were_compared() -> None:
    found = compared(files_of("low", ["a/x"]), files_of("high", ["a/x"]))
    idle = rule("/b/*")
    assert detection.unused(found, [rule("/a/*"), idle], ["low", "high"]) == [idle]
    assert detection.unused(found, [idle], ["low"]) == []
    error = messages.of_unused_rules("target", [idle])
    assert "matrix.yaml:1" in error.message


def test_the_error_names_paths_both_distributions_and_what_to_write() -> None:
    paths = [f"a/{number}" for number in range(9)]
    found = compared(files_of("low", paths), files_of("high", paths))
    error = messages.of_conflicts("target", found, 3)
    assert "low and high" in error.message
    assert "/a/0" in error.message
    assert "and 5 more" in error.message
    assert "3 distributions" in error.message
    assert "winner: high\n        over: low" in str(error.remedy)


@pytest.mark.parametrize(
    ("winner", "loser", "gone"),
    [({"a": "1", "b": "1"}, {"a": "2", "b": "1", "c": "2"}, {"a"}),
     ({"a": "1"}, {"a/x": "2", "a/y": "2", "b": "2"}, {"a/x", "a/y"}),
     ({"a/x": "1"}, {"a": "2"}, {"a"}),
     ({"A": "1"}, {"a": "2"}, {"a"})],
)  # fmt: skip
def test_what_a_loser_leaves_out_is_what_it_loses(
    winner: dict[str, str], loser: dict[str, str], gone: set[str]
) -> None:
    lost = detection.lost(rule("/*"), files_of("high", winner), files_of("low", loser))
    assert lost == gone
    other = rule("/elsewhere/*")
    assert not detection.lost(other, files_of("high", winner), files_of("low", loser))


def items() -> Iterator[Distribution]:
    for name, size in (("low", 3_000_000), ("high", 2_000_000), ("one", 10), ("two", 10)):
        yield Distribution(name, "1.0", Artifact(f"{name}-1.0-py3-none-any.whl", "0" * 64, size))


def test_a_layer_changes_only_where_its_file_would_win_and_must_not() -> None:
    low, high, one, two = items()
    apart = [grouping.Group(titles.parse(item.name), (item,)) for item in (low, high)]
    groups = [*apart, grouping.Group(titles.parse("bucket"), (one, two))]
    assert left_out.of_groups(groups, [rule()]) == {}
    beaten = left_out.of_groups(groups, [rule(winner="low", over="high")])
    assert [name.title for name in beaten] == ["high"]
    assert list(left_out.of_groups(groups, [rule(winner="one", over="two")])) == [groups[2].name]
    assert list(left_out.of_groups(groups, [rule(winner="two", over="one")])) == [groups[2].name]
    own = left_out.of_groups(groups, [rule(winner=THE_IMAGE, over="low")])
    assert own[groups[0].name][0].winner is None
    assert left_out.of_groups(groups, [rule(winner="gone", over="low")]) == {}
    (line,) = left_out.inputs(beaten[groups[1].name])
    assert line == ["/*", "high", "low", "0" * 64]
