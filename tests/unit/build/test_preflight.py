"""What a build asks of the machine before it fetches or makes anything."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path

import pytest

from images.build import preflight, prepare, titles
from images.build.preflight import Needs
from images.build.recipe import Recipe
from images.build.titles import Kind
from images.errors import StoreError, ToolError
from images.inputs.matrix.load import load
from images.repository import ROOT
from tests.faults.disks import disk, remount

TARGET = "torch280-sglang052"
GIB = 1 << 30


def recipes() -> list[Recipe]:
    found = load(ROOT / "matrix.yaml")
    target = found.target(TARGET)
    return prepare.inputs_of(found, target).recipes()


def test_a_whole_build_needs_less_than_it_makes_and_most_of_it() -> None:
    """torch280-sglang052 is 4.09 GB; the base is put together in 1 GiB more."""
    wanted = preflight.needs(recipes(), 4_780_000_000)
    assert wanted.cache == 4_780_000_000
    assert 3_500_000_000 < wanted.store - GIB < 4_090_000_000


def test_one_changed_layer_needs_no_root_file_system() -> None:
    (runtime,) = (recipe for recipe in recipes() if recipe.kind is Kind.RUNTIME)
    assert preflight.needs([runtime], 0).store < 1_000_000


def test_only_what_is_installed_or_compiled_in_a_root_needs_mmdebstrap() -> None:
    names = [recipe.name for recipe in recipes() if recipe.bootstraps]
    assert names == [titles.DEBIAN, titles.KERNELS]


def test_room_on_one_disk_is_asked_for_both(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=600m") as place:
        cache, store = place / "a" / "cache", place / "b" / "store"
        preflight.check_room(Needs(300 << 20, 250 << 20), cache, store)
        with pytest.raises(StoreError, match="store and the download cache") as caught:
            preflight.check_room(Needs(400 << 20, 300 << 20), cache, store)
    assert "needs 734 MB or more" in caught.value.message
    assert "--store DIR" in (caught.value.remedy or "")
    assert "--cache DIR" in (caught.value.remedy or "")


def test_room_on_two_disks_is_asked_of_each(tmp_path: Path) -> None:
    with disk(tmp_path / "one", "size=400m") as one, disk(tmp_path / "two", "size=300m") as two:
        preflight.check_room(Needs(350 << 20, 280 << 20), one, two)
        with pytest.raises(StoreError, match="holds the download cache"):
            preflight.check_room(Needs(500 << 20, 280 << 20), one, two)
        with pytest.raises(StoreError, match="holds the store"):
            preflight.check_room(Needs(350 << 20, 350 << 20), one, two)


def test_cache_on_a_read_only_disk_is_refused_with_the_option(tmp_path: Path) -> None:
    with disk(tmp_path / "disk") as place:
        remount(place, "ro")
        with pytest.raises(StoreError, match="Read-only file system") as caught:
            preflight.check_writable(place / "home" / ".cache")
    assert "--cache DIR" in (caught.value.remedy or "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_cache_of_another_user_is_refused_with_the_option() -> None:
    with pytest.raises(StoreError, match="Permission denied"):
        preflight.check_writable(Path("/etc/cache"))


def test_cache_where_a_file_is_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        preflight.check_writable(tmp_path / "cache")


def test_cache_that_no_program_may_run_from_is_refused_with_the_option(tmp_path: Path) -> None:
    with (
        disk(tmp_path / "disk", "noexec,size=1m") as place,
        pytest.raises(ToolError, match="mounted noexec") as caught,
    ):
        preflight.check_programs_may_run(place / "cache")
    assert "--cache DIR" in (caught.value.remedy or "")


def test_other_machines_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.check_platform()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(ToolError, match="Linux on aarch64") as caught:
        preflight.check_platform()
    assert "--cache-from" in (caught.value.remedy or "")


def test_small_builds_ask_for_no_room(tmp_path: Path) -> None:
    """A disk so full is noticed soon, and what fits in the end is not known before."""
    with disk(tmp_path / "disk", "size=64k") as place:
        preflight.check_room(Needs(1 << 20, 1 << 20), place, place)


def test_weights_are_what_room_is_asked_by() -> None:
    recipe = replace(recipes()[-1], weight=10 * GIB)
    assert preflight.needs([recipe], 0).store == 8 * GIB
