"""Our own builder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.checkout import Variant
from benchmarks.rivals import base
from benchmarks.rivals.rival import COLD, FIRST, Bench


class Ours:
    """`build.py`. Its first build makes the base as well; the cold one has it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.store = bench.place / "store"

    @contextmanager
    def running(self) -> Iterator[Sequence[int]]:
        """Start no daemon."""
        yield ()

    def prepare(self, variant: Variant) -> None:
        """Write the sources of a variant; a cold build begins with a store of the base alone."""
        self._bench.checkout.at(variant)
        if variant.name in (FIRST, COLD):
            self.drop()
        if variant.name == COLD:
            base.seed(self._bench.store, self._bench.base_of, self.store)

    def build(self, variant: Variant) -> Sequence[str]:
        """Return the command, as users run it."""
        return self._at_store("build", variant, "--json")

    def after(self, variant: Variant) -> None:
        """Do nothing: nothing is stored twice."""

    def push(self, variant: Variant, reference: str) -> Sequence[str]:
        """Return the command of users without SBOM and provenance: the rivals send none."""
        self._bench.checkout.at(variant)
        return self._at_store("push", variant, "--to", reference, "--plain-http", "--no-attest")

    def drop(self) -> None:
        """Remove the store."""
        shutil.rmtree(self.store, ignore_errors=True)

    def versions(self) -> Mapping[str, str]:
        """Return nothing: it is this commit."""
        return {}

    def _at_store(self, name: str, variant: Variant, *options: str) -> list[str]:
        command = self._bench.checkout.command(name, variant.target, *options)
        return [*command, "--store", str(self.store)]
