"""The stack of a target: its order, and keys that change with what decides and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from images import format_numbers
from images.build import base, grouping, layer_recipes
from images.build.recipe import Recipe
from images.inputs.lock import base_lock, cuda_lock, distribution, sealed_text
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.lock.distribution import Distribution
from images.inputs.lock.target_lock import Lock
from images.oci.descriptor import Compression
from images.oci.image import MAX_LAYERS
from images.repository import ROOT

LOCKS = sorted(
    path for path in (ROOT / "images" / "locks").glob("torch*.txt") if path.stem.count("-") == 1
)
BUILD = "# build "


def read(path: Path) -> Lock:
    lines = sealed_text.read(path, remedy="").lines
    return Lock(
        distribution.parse_lines(line for line in lines if not line.startswith(BUILD)),
        distribution.parse_lines(
            line.removeprefix(BUILD) for line in lines if line.startswith(BUILD)
        ),
    )


def recipes(
    value: Lock, compression: Compression = "zstd", debs: list[Deb] | None = None
) -> list[Recipe]:
    debs = debs or base_lock.read()
    return layer_recipes.recipes(value, debs, compiler(value), compression, base.debian(debs))


def compiler(value: Lock) -> Toolkit:
    names = {item.name for item in value.distributions}
    return cuda_lock.read("13.0" if "nvidia-cuda-runtime" in names else "12.4")


def bumped(value: Lock, name: str) -> Lock:
    (old,) = (item for item in value.distributions if item.name == name)
    file = dataclasses.replace(old.artifact, sha256="f" * 64)
    new = dataclasses.replace(old, version="999", artifact=file)
    items = tuple(new if item is old else item for item in value.distributions)
    return dataclasses.replace(value, distributions=items)


def keys(value: Lock) -> list[str]:
    return [recipe.key for recipe in recipes(value)]


@pytest.fixture(params=LOCKS, ids=lambda path: str(path.stem))
def real(request: pytest.FixtureRequest) -> Lock:
    return read(request.param)


@pytest.fixture
def value() -> Lock:
    return read(ROOT / "images" / "locks" / "torch280-sglang052.txt")


def test_real_target_fits_and_its_keys_and_titles_differ(real: Lock) -> None:
    found = recipes(real)
    assert 10 < len(found) <= MAX_LAYERS
    assert len({recipe.key for recipe in found}) == len(found)
    assert len({recipe.title for recipe in found}) == len(found)


def test_real_target_holds_each_distribution_once(real: Lock) -> None:
    others = ("CUDA", "Debian", "roll")
    named = [recipe for recipe in recipes(real) if not recipe.title.startswith(others)]
    built = set(real.build)
    found = [item for recipe in named for item in recipe.distributions]
    assert sorted(set(found) - built) == sorted(set(real.distributions) - built)


def test_base_is_lowest_then_compiler_and_roll_runtime_highest(real: Lock) -> None:
    titles = [recipe.title for recipe in recipes(real)]
    assert titles[0] == "Debian bookworm"
    assert titles[1].startswith("CUDA compiler")
    assert titles[-1] == "roll_runtime"


def test_links_stand_on_the_torch_stack_and_under_the_rest(real: Lock) -> None:
    found = recipes(real)
    (place,) = (index for index, recipe in enumerate(found) if recipe.title == "CUDA links")
    below, above = found[2:place], found[place + 1 : -1]
    assert all(grouping.is_torch_stack(recipe.distributions[0]) for recipe in below)
    large = [
        item for item in above if item.weight >= grouping.OWN_LAYER and "small" not in item.title
    ]
    assert not any(grouping.is_torch_stack(recipe.distributions[0]) for recipe in large)


def test_links_are_there_without_a_large_wheel_of_torchs() -> None:
    file = Artifact("nvidia_cuda_runtime_cu12-12.8.90-py3-none-any.whl", "1" * 64, 950_000)
    small = Lock((Distribution("nvidia-cuda-runtime-cu12", "12.8.90", file),), ())
    assert [recipe.title for recipe in recipes(small)].count("CUDA links") == 1


def test_links_stay_in_place_when_a_bucket_begins_with_a_wheel_of_nvidias() -> None:
    items = [
        Distribution(name, "1.0", Artifact(f"{name}-1.0-py3-none-any.whl", digit * 64, size))
        for name, digit, size in (
            ("torch", "1", 9_000_000),
            ("sglang", "2", 5_000_000),
            ("nvidia-nvtx-cu12", "3", 90_000),
        )
    ]
    titles = [recipe.title for recipe in recipes(Lock(tuple(items), ()))]
    assert titles.index("CUDA links") < titles.index("sglang 1.0")


def test_targets_on_one_torch_begin_with_the_same_layers() -> None:
    stacks = [keys(read(path)) for path in LOCKS if path.stem.startswith("torch280")]
    assert len(stacks) == 3
    assert len({tuple(stack[:12]) for stack in stacks}) == 1


# -- keys ------------------------------------------------------------------------------------------


def test_keys_are_the_same_each_time(value: Lock) -> None:
    assert keys(value) == keys(value)


@pytest.mark.parametrize("name", ["einops", "sglang", "transformers", "flashinfer-python"])
def test_bump_of_a_distribution_changes_one_layer_in_its_place(value: Lock, name: str) -> None:
    before, after = keys(value), keys(bumped(value, name))
    assert len(before) == len(after)
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1


def test_bump_of_a_cuda_library_changes_its_layer_and_the_links(value: Lock) -> None:
    old, new = recipes(value), recipes(bumped(value, "nvidia-nccl-cu12"))
    changed = [b.title for a, b in zip(old, new, strict=True) if a.key != b.key]
    assert changed == ["nvidia-nccl-cu12 999", "CUDA links"]


def test_build_requirement_of_an_sdist_changes_that_layer_alone(value: Lock) -> None:
    assert value.build
    file = dataclasses.replace(value.build[0].artifact, sha256="e" * 64)
    build = (dataclasses.replace(value.build[0], artifact=file), *value.build[1:])
    old, new = recipes(value), recipes(dataclasses.replace(value, build=build))
    changed = [a for a, b in zip(old, new, strict=True) if a.key != b.key]
    assert len(changed) == 1
    assert any(not item.is_wheel for item in changed[0].distributions)


def test_wheel_with_a_wrong_record_changes_its_layer_alone(value: Lock) -> None:
    misrecorded = frozenset({"xgrammar"})
    old, new = recipes(value), recipes(dataclasses.replace(value, misrecorded=misrecorded))
    changed = [a.title for a, b in zip(old, new, strict=True) if a.key != b.key]
    assert changed == ["xgrammar 0.1.24"]


def test_compression_changes_every_key(value: Lock) -> None:
    assert not {item.key for item in recipes(value, "gzip")} & set(keys(value))


@pytest.mark.parametrize("number", ["BYTE_CODE", "LAYER_WRITER"])
def test_number_that_all_layers_share_changes_every_key(
    value: Lock, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(keys(value))
    monkeypatch.setattr(format_numbers, number, "other")
    assert not before & set(keys(value))


def test_other_way_to_build_an_sdist_changes_its_layer(
    value: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(value)
    monkeypatch.setattr(format_numbers, "SDIST", "other")
    assert len(set(before) - set(keys(value))) == 1


def test_other_content_of_the_virtual_environment_changes_the_base(
    value: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(value)
    monkeypatch.setattr(base, "VENV_CONFIG", "include-system-site-packages = true\n")
    assert set(before) - set(keys(value)) == {before[0]}


def test_other_compiler_links_change_the_links(
    value: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(value)
    monkeypatch.setattr(format_numbers, "CUDA_LINKS", "other")
    assert len(set(before) - set(keys(value))) == 1


def test_security_update_of_another_package_changes_the_base_alone(value: Lock) -> None:
    debs = base_lock.read()
    index = next(index for index, deb in enumerate(debs) if deb.package == "perl-base")
    debs[index] = dataclasses.replace(
        debs[index], artifact=dataclasses.replace(debs[index].artifact, sha256="d" * 64)
    )
    after = [recipe.key for recipe in recipes(value, debs=debs)]
    before = keys(value)
    assert [index for index, key in enumerate(before) if key != after[index]] == [0]


def test_what_a_recipe_needs_is_all_that_its_layer_is_made_of(value: Lock) -> None:
    for recipe in recipes(value):
        assert recipe.weight > 0
        assert len(recipe.needs) == len(recipe.distributions) + len(recipe.debs)
        if any(not item.is_wheel for item in recipe.distributions):
            assert set(value.build) <= set(recipe.distributions)
