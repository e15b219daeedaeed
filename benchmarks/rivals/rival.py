"""The interface of a rival, and what all rivals share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.checkout import Checkout, Variant
from images.oci.store.store import Store

FIRST, COLD, SECOND = "first", "cold", "second"
"""Builds of a sequence: with nothing at all, with warm downloads, of the second target."""


@dataclass(frozen=True)
class Bench:
    """The directories, sources and files that a rival uses.

    Attributes:
        place: the directory of this rival, all of whose state is in it.
        shared: the directory of what rivals share.
        checkout: the sources, with the download cache of all that is built.
        store: a store that has the base's layers.
        base_of: the target in it whose base they are.
        index: the address of the wheels' page.
        pip: pip's wheel.
    """

    place: Path
    shared: Path
    checkout: Checkout
    store: Store
    base_of: str
    index: str
    pip: Path


class Rival(Protocol):
    """A way to an image."""

    def running(self) -> AbstractContextManager[Sequence[int]]:
        """Start what must run beside the commands; yield the process ids of daemons."""

    def prepare(self, variant: Variant) -> None:
        """Do what is not timed before a build."""

    def build(self, variant: Variant) -> Sequence[str]:
        """Return the command that builds."""

    def after(self, variant: Variant) -> None:
        """Free disk space after a build and its push."""

    def push(self, variant: Variant, reference: str) -> Sequence[str]:
        """Do what a push needs first; return the command that pushes."""

    def drop(self) -> None:
        """Remove all that was built."""

    def versions(self) -> Mapping[str, str]:
        """Return the versions of its programs."""


def quiet(command: Sequence[str], **environment: str) -> str:
    """Run a command that is not timed; return its output."""
    env = {**os.environ, **environment}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout
