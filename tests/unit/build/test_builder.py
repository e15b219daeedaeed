"""Layers of an image: from the store, from elsewhere, or made."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from images.build.builder import BuiltLayer
from images.build.recipe import Recipe
from images.errors import BuildError, StoreError
from images.oci.reference import Repository
from images.oci.store.maintenance import verify
from images.oci.store.remote_layers import Location, RemoteLayer
from images.oci.store.store import open_store
from tests.unit.build_setup import BuildSetup, failure

LOCATION = Location(Repository("localhost:5000", "roll/cache"), plain_http=True)


class Library:
    """Has layers that are elsewhere; records the lookups."""

    def __init__(self, *made: BuiltLayer) -> None:
        self.remotes = {item.key: RemoteLayer(item.key, item.layer.blob, LOCATION) for item in made}
        self.asked: list[list[str]] = []

    def __call__(self, recipes: Sequence[Recipe]) -> dict[str, RemoteLayer]:
        self.asked.append([recipe.title for recipe in recipes])
        keys = [recipe.key for recipe in recipes]
        return {key: self.remotes[key] for key in keys if key in self.remotes}


def test_layers_come_in_the_order_of_their_recipes(setup: BuildSetup) -> None:
    recipes = [
        setup.recipe("small"),
        setup.recipe("large", [setup.file("a.whl", bytes(500_000))]),
        setup.recipe("middle", [setup.file("b.whl"), setup.file("c.whl", b"c")]),
    ]
    found = setup.make(recipes)
    assert [item.layer.title for item in found] == ["small", "large", "middle"]
    assert [item.reused for item in found] == [False] * 3
    assert sorted(setup.made) == ["large", "middle", "small"]
    for item in found:
        assert setup.options.store.blobs.has(item.layer.blob.digest, item.layer.blob.size)
    assert verify(setup.options.store) == []


def test_second_build_makes_and_fetches_nothing(setup: BuildSetup) -> None:
    recipes = [setup.recipe("one", [setup.file("a.whl")]), setup.recipe("two")]
    first = setup.make(recipes)
    setup.made.clear()
    setup.server.seen.clear()
    second = setup.make(recipes)
    assert [item.layer for item in second] == [item.layer for item in first]
    assert all(item.reused for item in second)
    assert (setup.made, setup.server.seen) == ([], [])


def test_layer_that_is_elsewhere_is_neither_made_nor_fetched(
    setup: BuildSetup, tmp_path: Path
) -> None:
    recipes = [setup.recipe("one", [setup.file("a.whl")]), setup.recipe("two")]
    first = setup.make(recipes)
    setup.made.clear()
    setup.server.seen.clear()
    setup.options = dataclasses.replace(
        setup.options, store=open_store(tmp_path / "other"), cache=tmp_path / "none"
    )
    second = setup.make(recipes, Library(first[0]))
    assert [item.layer for item in second] == [item.layer for item in first]
    assert [(item.reused, item.location) for item in second] == [(True, LOCATION), (False, None)]
    assert (setup.made, setup.server.seen) == (["two"], [])
    assert [item.key for item in setup.options.store.remote_layers.missing_here().values()] == [
        recipes[0].key
    ]


def test_only_what_the_store_lacks_is_looked_for(setup: BuildSetup) -> None:
    recipes = [setup.recipe("one"), setup.recipe("two")]
    setup.make(recipes[:1])
    library = Library()
    setup.make(recipes, library)
    setup.make(recipes, library)
    assert library.asked == [["two"]]


def test_build_that_looks_nowhere_leaves_a_whole_store(setup: BuildSetup) -> None:
    recipes = [setup.recipe("one"), setup.recipe("two")]
    first = setup.make(recipes)
    store = setup.options.store
    store.blobs.path(first[0].layer.blob.digest).unlink()
    setup.make(recipes, Library(first[0]))
    assert store.remote_layers.missing_here()
    third = setup.make(recipes)
    assert [item.reused for item in third] == [False, True]
    assert store.remote_layers.missing_here() == {}


def test_lost_blob_is_made_again_and_no_other(setup: BuildSetup) -> None:
    recipes = [setup.recipe("one"), setup.recipe("two")]
    first = setup.make(recipes)
    setup.options.store.blobs.path(first[1].layer.blob.digest).unlink()
    setup.made.clear()
    second = setup.make(recipes)
    assert setup.made == ["two"]
    assert [item.reused for item in second] == [True, False]
    assert [item.layer for item in second] == [item.layer for item in first]


def test_two_builds_at_once_make_each_layer_once(setup: BuildSetup) -> None:
    recipes = [setup.recipe(str(number)) for number in range(8)]
    results: list[list[BuiltLayer]] = []
    threads = [
        threading.Thread(target=lambda: results.append(setup.make(recipes))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(setup.made) == [str(number) for number in range(8)]
    assert len({tuple(item.layer for item in result) for result in results}) == 1


def test_build_of_what_is_known_makes_nothing(setup: BuildSetup) -> None:
    recipes = [setup.recipe("one", [setup.file("a.whl")]), setup.recipe("two")]
    first = setup.make(recipes)
    setup.made.clear()
    setup.server.seen.clear()
    setup.options = dataclasses.replace(setup.options, only_known=True)
    assert [item.layer for item in setup.make(recipes)] == [item.layer for item in first]
    error = failure(setup, [*recipes, setup.recipe("three")])
    assert isinstance(error, StoreError)
    assert "1 layers would have to be made:\n  three" in error.message
    assert error.remedy == "build them first, without --only-known"
    assert (setup.made, setup.server.seen) == ([], [])


def test_too_many_layers_are_refused(setup: BuildSetup) -> None:
    with pytest.raises(BuildError, match="101 layers"):
        setup.make([setup.recipe(str(number)) for number in range(101)])
    assert setup.made == []
