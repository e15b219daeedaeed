"""Making layers: real downloads, a real store, and failures that are told as what they are.

The image's interpreter is stood in for by the one that runs the tests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from pathlib import Path

import pytest

from images.build import builder, titles
from images.build.builder import BuiltLayer, CacheLookup
from images.build.recipe import LayerContext, Recipe
from images.content.python import interpreter
from images.content.python.interpreter import Interpreter
from images.errors import BuildError, FetchError, IntegrityError, StoreError
from images.http.retry import Policy
from images.inputs.build_options import BuildOptions
from images.inputs.fetch import download_cache, needed
from images.inputs.fetch.needed import Sources
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.target_lock import Distribution
from images.oci.layer.entry import Entry, of_bytes
from images.oci.reference import Repository
from images.oci.store.remote_layers import Place, Remote
from images.oci.store.store import open_store
from images.util import progress
from images.util.progress import Progress
from tests.unit.conftest import Faulty

BODY = b"content of a wheel" * 1000


class Kitchen:
    """Recipes on the test's own server; each counts how often it is made."""

    def __init__(self, server: Faulty, place: Path) -> None:
        self.server = server
        self.made: list[str] = []
        self.out = io.StringIO()
        self.downloads: list[Future[Path]] = []
        self.options = BuildOptions(
            store=open_store(place / "store"),
            cache=place / "cache",
            matrix=place / "matrix.yaml",
            compression="gzip",
            jobs=2,
        )

    def file(self, name: str, content: bytes = BODY) -> Distribution:
        self.server.files[f"/{name}"] = content
        digest = hashlib.sha256(content).hexdigest()
        return Distribution(name, "1.0", Artifact(name, digest, len(content)))

    def recipe(
        self,
        title: str,
        files: Sequence[Distribution] = (),
        extra: Callable[[], Iterator[Entry]] = lambda: iter(()),
    ) -> Recipe:
        def entries(context: LayerContext, opened: ExitStack) -> Iterator[Entry]:
            self.made.append(title)
            yield of_bytes(f"{title}/own", title.encode())
            for item in files:
                path = download_cache.checked(item.artifact, context.cache)
                yield of_bytes(f"{title}/{item.name}", path.read_bytes())
            yield from extra()

        weight = sum(item.artifact.size for item in files) or 10
        key = hashlib.sha256(title.encode()).hexdigest()
        return Recipe(titles.parse(title), key, tuple(files), (), entries, weight)

    def cook(
        self, recipes: Sequence[Recipe], lookup: CacheLookup | None = None
    ) -> list[BuiltLayer]:
        progress = Progress(self.out)
        with self.options.store.building():
            return builder.make(recipes, [], self.options, progress, lookup)


@pytest.fixture
def kitchen(server: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    def locations(wanted: Sources, mirror: str | None, cache: Path) -> dict[Artifact, str]:
        return {file: server.url(f"/{item.name}") for file, item in wanted.distributions.items()}

    def noted(self: download_cache.Downloads, artifact: Artifact, url: str) -> Future[Path]:
        kitchen.downloads.append(start(self, artifact, url))
        return kitchen.downloads[-1]

    def late(python: Interpreter) -> Interpreter:
        """It may take so long that all downloads have ended, well or not."""
        wait(kitchen.downloads)
        return python

    kitchen, start = Kitchen(server, tmp_path), download_cache.Downloads.start
    python = Interpreter((sys.executable, "-I", "-S"), {}, "3.11.0")
    monkeypatch.setattr(interpreter, "missing", lambda *_: [])
    monkeypatch.setattr(interpreter, "extracted", lambda *_: late(python))
    monkeypatch.setattr(download_cache.Downloads, "start", noted)
    monkeypatch.setattr(needed, "locate", locations)
    monkeypatch.setattr(download_cache, "POLICY", Policy(first=0.0))
    return kitchen


def test_layers_come_in_the_order_of_their_recipes(kitchen: Kitchen) -> None:
    recipes = [
        kitchen.recipe("small"),
        kitchen.recipe("large", [kitchen.file("a.whl", bytes(500_000))]),
        kitchen.recipe("middle", [kitchen.file("b.whl"), kitchen.file("c.whl", b"c")]),
    ]
    found = kitchen.cook(recipes)
    assert [item.layer.title for item in found] == ["small", "large", "middle"]
    assert [item.reused for item in found] == [False] * 3
    assert sorted(kitchen.made) == ["large", "middle", "small"]
    for item in found:
        assert kitchen.options.store.has(item.layer.blob.digest, item.layer.blob.size)
    assert kitchen.options.store.verify() == []


def test_second_build_makes_and_fetches_nothing(kitchen: Kitchen) -> None:
    recipes = [kitchen.recipe("one", [kitchen.file("a.whl")]), kitchen.recipe("two")]
    first = kitchen.cook(recipes)
    kitchen.made.clear()
    kitchen.server.seen.clear()
    second = kitchen.cook(recipes)
    assert [item.layer for item in second] == [item.layer for item in first]
    assert all(item.reused for item in second)
    assert (kitchen.made, kitchen.server.seen) == ([], [])


PLACE = Place(Repository("localhost:5000", "roll/cache"), plain_http=True)


class Library:
    """Knows layers that lie elsewhere; notes what it was asked for."""

    def __init__(self, *made: BuiltLayer) -> None:
        self.remotes = {item.key: Remote(item.key, item.layer.blob, PLACE) for item in made}
        self.asked: list[list[str]] = []

    def __call__(self, recipes: Sequence[Recipe]) -> dict[str, Remote]:
        self.asked.append([recipe.title for recipe in recipes])
        keys = [recipe.key for recipe in recipes]
        return {key: self.remotes[key] for key in keys if key in self.remotes}


def test_layer_that_lies_elsewhere_is_neither_made_nor_fetched(
    kitchen: Kitchen, tmp_path: Path
) -> None:
    recipes = [kitchen.recipe("one", [kitchen.file("a.whl")]), kitchen.recipe("two")]
    first = kitchen.cook(recipes)
    kitchen.made.clear()
    kitchen.server.seen.clear()
    kitchen.options = dataclasses.replace(
        kitchen.options, store=open_store(tmp_path / "other"), cache=tmp_path / "none"
    )
    second = kitchen.cook(recipes, Library(first[0]))
    assert [item.layer for item in second] == [item.layer for item in first]
    assert [(item.reused, item.place) for item in second] == [(True, PLACE), (False, None)]
    assert (kitchen.made, kitchen.server.seen) == (["two"], [])
    assert [item.key for item in kitchen.options.store.remotes().values()] == [recipes[0].key]


def test_only_what_the_store_lacks_is_looked_for(kitchen: Kitchen) -> None:
    recipes = [kitchen.recipe("one"), kitchen.recipe("two")]
    kitchen.cook(recipes[:1])
    library = Library()
    kitchen.cook(recipes, library)
    kitchen.cook(recipes, library)
    assert library.asked == [["two"]]


def test_build_that_looks_nowhere_leaves_a_whole_store(kitchen: Kitchen) -> None:
    recipes = [kitchen.recipe("one"), kitchen.recipe("two")]
    first = kitchen.cook(recipes)
    store = kitchen.options.store
    store.blob_path(first[0].layer.blob.digest).unlink()
    kitchen.cook(recipes, Library(first[0]))
    assert store.remotes()
    third = kitchen.cook(recipes)
    assert [item.reused for item in third] == [False, True]
    assert store.remotes() == {}


def test_lost_blob_is_made_anew_and_no_other(kitchen: Kitchen) -> None:
    recipes = [kitchen.recipe("one"), kitchen.recipe("two")]
    first = kitchen.cook(recipes)
    kitchen.options.store.blob_path(first[1].layer.blob.digest).unlink()
    kitchen.made.clear()
    second = kitchen.cook(recipes)
    assert kitchen.made == ["two"]
    assert [item.reused for item in second] == [True, False]
    assert [item.layer for item in second] == [item.layer for item in first]


def test_two_builds_at_once_make_each_layer_once(kitchen: Kitchen) -> None:
    recipes = [kitchen.recipe(str(number)) for number in range(8)]
    results: list[list[BuiltLayer]] = []
    threads = [
        threading.Thread(target=lambda: results.append(kitchen.cook(recipes))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kitchen.made) == [str(number) for number in range(8)]
    assert len({tuple(item.layer for item in result) for result in results}) == 1


def failure(kitchen: Kitchen, recipes: Sequence[Recipe]) -> BuildError:
    with pytest.raises(BuildError) as error:
        kitchen.cook(recipes)
    assert not list((kitchen.options.store.path / ".roll" / "tmp").iterdir())
    assert kitchen.options.store.verify() == []
    return error.value


def test_file_that_is_gone_is_told_as_such(kitchen: Kitchen) -> None:
    gone = kitchen.file("gone.whl")
    del kitchen.server.files["/gone.whl"]
    error = failure(kitchen, [kitchen.recipe("one", [gone])])
    assert isinstance(error, FetchError)
    assert "HTTP 404" in error.message
    assert kitchen.made == []


def test_all_files_that_are_gone_are_listed(kitchen: Kitchen) -> None:
    gone = [kitchen.file(f"gone{number}.whl", bytes([number])) for number in range(3)]
    for item in gone:
        del kitchen.server.files[f"/{item.name}"]
    error = failure(kitchen, [kitchen.recipe(item.name, [item]) for item in gone])
    assert all(item.name in error.message for item in gone)


def test_offline_build_asks_nobody_and_names_what_is_missing(kitchen: Kitchen) -> None:
    here, gone = kitchen.file("here.whl", b"1"), kitchen.file("gone.whl", b"2")
    kitchen.cook([kitchen.recipe("first", [here])])
    kitchen.server.seen.clear()
    kitchen.options = dataclasses.replace(kitchen.options, offline="build.py fetch --all")
    error = failure(kitchen, [kitchen.recipe("one", [here, gone])])
    assert isinstance(error, FetchError)
    assert "1 files that the build needs" in error.message
    assert "gone.whl==1.0: gone.whl" in error.message
    assert "here.whl" not in error.message
    assert error.remedy == "where there is a network: build.py fetch --all"
    assert kitchen.server.seen == []
    assert len(kitchen.cook([kitchen.recipe("two", [here])])) == 1


def test_build_of_what_is_known_makes_nothing(kitchen: Kitchen) -> None:
    recipes = [kitchen.recipe("one", [kitchen.file("a.whl")]), kitchen.recipe("two")]
    first = kitchen.cook(recipes)
    kitchen.made.clear()
    kitchen.server.seen.clear()
    kitchen.options = dataclasses.replace(kitchen.options, only_known=True)
    assert [item.layer for item in kitchen.cook(recipes)] == [item.layer for item in first]
    error = failure(kitchen, [*recipes, kitchen.recipe("three")])
    assert isinstance(error, StoreError)
    assert "1 layers would have to be made:\n  three" in error.message
    assert error.remedy == "build them first, without --only-known"
    assert (kitchen.made, kitchen.server.seen) == ([], [])


def test_wrong_bytes_are_worse_than_a_lost_file(kitchen: Kitchen) -> None:
    gone, wrong = kitchen.file("gone.whl", b"1"), kitchen.file("wrong.whl", b"2")
    del kitchen.server.files["/gone.whl"]
    kitchen.server.files["/wrong.whl"] = b"3"
    error = failure(kitchen, [kitchen.recipe("a", [gone]), kitchen.recipe("b", [wrong])])
    assert isinstance(error, IntegrityError)


def test_failed_layer_keeps_those_that_were_finished(kitchen: Kitchen) -> None:
    def broken() -> Iterator[Entry]:
        yield Entry("short", size=5)

    good = kitchen.recipe("good", [kitchen.file("a.whl")])
    kitchen.cook([good])
    error = failure(kitchen, [good, kitchen.recipe("bad", extra=broken)])
    assert isinstance(error, IntegrityError)
    assert error.message == "layer bad: short: 5 bytes short"
    assert "pin another version" in str(error.remedy)
    assert kitchen.options.store.known(good.key)


def test_failed_layer_stops_the_others(kitchen: Kitchen) -> None:
    """A layer that would go on for ever is given up when another one fails."""
    begun = threading.Event()

    def endless() -> Iterator[Entry]:
        begun.set()
        number = 0
        while True:
            number += 1
            yield of_bytes(f"file{number}", b"x" * 10_000)

    def broken() -> Iterator[Entry]:
        assert begun.wait(60)
        yield Entry("short", size=5)

    error = failure(
        kitchen, [kitchen.recipe("endless", extra=endless), kitchen.recipe("bad", extra=broken)]
    )
    assert "short" in error.message


def test_too_many_layers_are_refused(kitchen: Kitchen) -> None:
    with pytest.raises(BuildError, match="101 layers"):
        kitchen.cook([kitchen.recipe(str(number)) for number in range(101)])
    assert kitchen.made == []


def test_full_disk_while_a_layer_is_made_is_a_store_error(
    kitchen: Kitchen, tiny_disk: Path
) -> None:
    kitchen.options = dataclasses.replace(kitchen.options, store=open_store(tiny_disk / "store"))
    recipe = kitchen.recipe("big", extra=lambda: iter([of_bytes("f", os.urandom(2 << 20))]))
    error = failure(kitchen, [recipe])
    assert isinstance(error, StoreError)
    assert "no space left" in error.message


def test_progress_of_files_and_layers_adds_up(kitchen: Kitchen) -> None:
    kitchen.server.faults["/a.whl"] = [503, "drop"]
    files = [kitchen.file("a.whl"), kitchen.file("b.whl", b"b" * 5000)]
    kitchen.cook([kitchen.recipe("one", files), kitchen.recipe("two", files[:1])])
    lines = kitchen.out.getvalue()
    assert "fetch: 23 kB in" in lines
    assert "layers: 41 kB in" in lines
    assert "made one" in lines


def test_layer_is_not_shown_as_done_before_it_is_on_the_disk(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes were estimated, here far too low: the bar ends with the work, not before it."""
    monkeypatch.setattr(progress, "_QUIET", 0.0)
    more = [of_bytes("f", bytes(1_000_000))]
    kitchen.cook(
        [kitchen.recipe("deep", [kitchen.file("a.whl", bytes(10_000))], lambda: iter(more))]
    )
    lines = [line for line in kitchen.out.getvalue().splitlines() if line.startswith("layers: ")]
    assert lines[-3:-1] == ["layers: 9.5 kB of 10 kB; making deep", "layers: 10 kB of 10 kB"]
