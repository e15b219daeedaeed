"""Recipes whose files are on the test's own server, and a store that they are made into."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import pytest

from images.build import builder, titles
from images.build.builder import BuiltLayer, CacheLookup
from images.build.recipe import LayerContext, Recipe
from images.errors import BuildError
from images.inputs.build_options import BuildOptions
from images.inputs.fetch import download_cache
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.distribution import Distribution
from images.oci.layer.entry import Entry, of_bytes
from images.oci.store.maintenance import verify
from images.oci.store.store import open_store
from images.util.progress import Progress
from tests.unit.faulty_server import Faulty

BODY = b"content of a wheel" * 1000


class BuildSetup:
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

    def make(
        self, recipes: Sequence[Recipe], lookup: CacheLookup | None = None
    ) -> list[BuiltLayer]:
        progress = Progress(self.out)
        with self.options.store.building():
            return builder.make(recipes, [], self.options, progress, lookup)


def failure(setup: BuildSetup, recipes: Sequence[Recipe]) -> BuildError:
    with pytest.raises(BuildError) as error:
        setup.make(recipes)
    assert not list((setup.options.store.path / ".roll" / "tmp").iterdir())
    assert verify(setup.options.store) == []
    return error.value
