"""The layer plan: what shares a layer, in which order, and how little a change moves."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.build import grouping, titles
from images.build.titles import Kind
from images.inputs.lock import sealed_text
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution, parse_lines
from images.inputs.matrix.load import load
from images.oci.image import MAX_LAYERS
from images.repository import ROOT

LOCKS = sorted(
    path for path in (ROOT / "images" / "locks").glob("torch*.txt") if path.stem.count("-") == 1
)
OTHER_LAYERS = 4  # base, compiler, links, roll_runtime


def distribution(name: str, size: int, version: str = "1.0") -> Distribution:
    return Distribution(name, version, Artifact(f"{name}-{version}.whl", "0" * 64, size))


def locked(path: Path) -> tuple[Distribution, ...]:
    lines = sealed_text.read(path, remedy="").lines
    return parse_lines(line for line in lines if not line.startswith("#"))


names = st.text("abcdefghij-", min_size=1, max_size=8)
distributions = st.dictionaries(names, st.integers(1, 3 * grouping.OWN_LAYER)).map(
    lambda sizes: [distribution(name, size) for name, size in sizes.items()]
)


@pytest.fixture(params=LOCKS, ids=lambda path: str(path.stem))
def real(request: pytest.FixtureRequest) -> tuple[Distribution, ...]:
    return locked(request.param)


def test_the_locks_are_those_of_the_targets() -> None:
    assert {path.stem for path in LOCKS} == {
        target.id for target in load(ROOT / "matrix.yaml").targets if not target.flavour
    }


def test_real_lock_fits_into_an_image(real: tuple[Distribution, ...]) -> None:
    assert 1 < len(grouping.groups(real)) <= MAX_LAYERS - OTHER_LAYERS


def test_each_distribution_of_a_real_lock_is_in_one_layer(real: tuple[Distribution, ...]) -> None:
    found = [item for group in grouping.groups(real) for item in group.distributions]
    assert sorted(found) == sorted(real)


def test_real_stack_begins_with_what_torch_pins(real: tuple[Distribution, ...]) -> None:
    own = [
        group.distributions[0] for group in grouping.groups(real) if len(group.distributions) == 1
    ]
    large = [item for item in own if item.artifact.size >= grouping.OWN_LAYER]
    flags = [grouping.is_torch_stack(item) for item in large]
    assert flags == sorted(flags, reverse=True)
    assert large[0].name.startswith(("nvidia-cudnn", "nvidia-cublas"))


def test_real_stack_has_what_changes_most_above_the_rest(real: tuple[Distribution, ...]) -> None:
    own = [
        group.distributions[0]
        for group in grouping.groups(real)
        if group.name.kind is Kind.DISTRIBUTION
    ]
    stack = [item.name for item in own if grouping.is_torch_stack(item)]
    kept = [name for name in stack if not name.startswith(grouping._NEW_WITH_TORCH)]
    assert stack[: len(kept)] == kept
    assert stack[-2:] == ["triton", "torch"]
    rest = [item for item in own if not grouping.is_torch_stack(item)]
    new = re.compile(r"flashinfer-.+|sgl-kernel|sglang(-kernel)?")
    sglangs = [item for item in rest if new.fullmatch(item.name)]
    assert {"sglang", "flashinfer-python"} < {item.name for item in sglangs}
    assert rest[-len(sglangs) :] == sglangs
    for part in (rest[: -len(sglangs)], sglangs):
        sizes = [item.artifact.size for item in part]
        assert sizes == sorted(sizes, reverse=True)


def test_nvidia_wheels_that_have_files_in_common_share_no_layer(
    real: tuple[Distribution, ...],
) -> None:
    """nvidia/__init__.py is in many of them; a layer refuses a path that comes twice."""
    for group in grouping.groups(real):
        nvidia = [item.name for item in group.distributions if item.name.startswith("nvidia-")]
        shared = [name for name in nvidia if grouping.is_torch_stack(distribution(name, 1))]
        assert len(shared) <= 1, group.name.title


@pytest.mark.parametrize("torch", ["torch280", "torch291"])
def test_targets_on_one_torch_begin_alike(torch: str) -> None:
    stacks = [
        [item.distributions for item in grouping.groups(locked(path))]
        for path in LOCKS
        if path.stem.startswith(torch)
    ]
    assert len(stacks) > 1
    assert _alike(stacks) >= 14


def test_releases_of_torch_begin_alike() -> None:
    """What torch 2.8 and 2.9 have in common is lowest: 2.5 GB that a node keeps once."""
    stacks = [
        grouping.groups(locked(path))
        for path in LOCKS
        if path.stem.startswith(("torch280", "torch291"))
    ]
    common = _alike([[group.distributions for group in stack] for stack in stacks])
    assert sum(group.size for group in stacks[0][:common]) > 2_500_000_000


def _alike(stacks: list[list[tuple[Distribution, ...]]]) -> int:
    """How many layers the stacks have in common, from the lowest."""
    common = 0
    while len({stack[common] for stack in stacks}) == 1:
        common += 1
    return common


@given(distributions)
def test_every_distribution_is_in_one_group_and_large_ones_are_alone(
    items: list[Distribution],
) -> None:
    groups = grouping.groups(items)
    assert sorted(item for group in groups for item in group.distributions) == sorted(items)
    for group in groups:
        assert len(group.distributions) == 1 or all(
            item.artifact.size < grouping.OWN_LAYER for item in group.distributions
        )
        assert list(group.distributions) == sorted(group.distributions)
    assert len({group.name.title for group in groups}) == len(groups)


@given(distributions, st.randoms())
def test_order_of_the_lock_does_not_matter(items: list[Distribution], random: object) -> None:
    shuffled = items.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert grouping.groups(shuffled) == grouping.groups(items)


@given(
    distributions, st.integers(1, grouping.OWN_LAYER - 1), st.integers(1, grouping.OWN_LAYER - 1)
)
def test_bump_of_a_small_distribution_changes_one_layer_in_its_place(
    items: list[Distribution], old_size: int, new_size: int
) -> None:
    old, new = distribution("bumped", old_size), distribution("bumped", new_size, "2.0")
    before, after = grouping.groups([*items, old]), grouping.groups([*items, new])
    assert len(before) == len(after)
    changed = [index for index, group in enumerate(before) if group != after[index]]
    assert len(changed) == 1
    assert [group.name.title for group in before] == [group.name.title for group in after]


@given(distributions, st.integers(1, 3 * grouping.OWN_LAYER))
def test_new_distribution_moves_no_other(items: list[Distribution], size: int) -> None:
    before = grouping.groups(items)
    after = grouping.groups([*items, distribution("added", size)])
    without = [
        grouping.Group(
            group.name, tuple(item for item in group.distributions if item.name != "added")
        )
        for group in after
    ]
    assert [group for group in without if group.distributions] == before
    assert len([group for group in after if group not in before]) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("torch", True), ("triton", True), ("nvidia-nccl-cu12", True), ("nvidia-cudnn", True),
     ("nvidia-cusparselt-cu13", True), ("torchvision", False), ("torchao", False),
     ("nvidia-cudnn-frontend", False), ("nvidia-ml-py", False), ("pytorch", False)],
)  # fmt: skip
def test_torch_stack_is_what_torch_pins(name: str, expected: bool) -> None:
    assert grouping.is_torch_stack(distribution(name, 1)) is expected


def test_names_tell_buckets_from_distributions(real: tuple[Distribution, ...]) -> None:
    for group in grouping.groups(real):
        assert (group.name.kind is Kind.DISTRIBUTION) or "small" in group.name.title


def test_size_of_a_group_is_that_of_its_files() -> None:
    one = distribution("a", 5)
    assert grouping.Group(titles.parse("t"), (one, dataclasses.replace(one, name="b"))).size == 10


def test_the_smallest_of_many_large_ones_are_with_the_small_ones() -> None:
    most = grouping._OWN_LAYERS
    sizes = range(grouping.OWN_LAYER, grouping.OWN_LAYER + most + 5)
    every = [distribution(f"d{size}", size) for size in sizes]
    found = grouping.groups(every)
    alone = {group.distributions[0] for group in found if group.name.kind is Kind.DISTRIBUTION}
    assert alone == {*every[5:]}
    assert sorted(item for group in found for item in group.distributions) == sorted(every)
