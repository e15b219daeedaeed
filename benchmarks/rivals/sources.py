"""The sources, wheels and base that all rivals of one run share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkout import Checkout, Variant
from benchmarks.rivals import dockerfile, wheels
from benchmarks.rivals.rival import Bench
from images.inputs.fetch import download_cache
from images.oci.store.store import Store

MATRIX, SMALL = Path("matrix.yaml"), Path("benchmarks", "rivals", "small", "matrix.yaml")
"""The matrix of the real targets, and that of small ones by the same names."""


@dataclass(frozen=True)
class Sources:
    """What rivals share.

    Attributes:
        place: the directory of one run.
        shared: the directory of what outlasts a run.
        matrix: `MATRIX` or `SMALL`.
        store: a store that has the base's layers.
        base_of: the target in it whose base they are.
        downloads: a download cache, whose files are taken by hard links.
        port: of the wheels' page.
    """

    place: Path
    shared: Path
    matrix: Path
    store: Store
    base_of: str
    downloads: Path
    port: int

    @contextmanager
    def benches(self, variants: Sequence[Variant]) -> Iterator[Callable[[str], Bench]]:
        """Serve the wheels of these variants; yield what returns a rival's bench by its name."""
        cache = self.place / "cache"
        checkout = Checkout(self.place, self.matrix, self.place / "unused", cache)
        files = self._wheels(variants, checkout, cache)
        (pip,) = (path for name, path in files.items() if name.startswith("pip-"))
        with wheels.index(files, self.port) as index:
            shared, store, base_of = self.shared, self.store, self.base_of
            yield lambda name: Bench(
                self.place / name, shared, checkout, store, base_of, index, pip
            )

    def _wheels(
        self, variants: Sequence[Variant], checkout: Checkout, cache: Path
    ) -> dict[str, Path]:
        """Return all locked files of the variants, by name; fetch those that the cache lacks."""
        found: dict[str, Path] = {}
        for variant in {(item.target, item.pin): item for item in variants}.values():
            checkout.fetch(variant, self.downloads)
            locked = dockerfile.locked(checkout, variant.target)
            for item in (*locked.distributions, *locked.build):
                found[item.artifact.filename] = download_cache.cached(item.artifact, cache)
        return found
