"""What the image under test should be, from the matrix, the lock and the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from images import lock, matrix, runtime, store
from images.image import Image
from images.lock import Lock
from images.matrix import Target
from images.store import Store

RUNTIME = "roll-runtime"


@dataclass(frozen=True)
class Subject:
    """The image under test."""

    target: Target
    lock: Lock
    lock_path: Path
    store: Store
    image: Image

    @property
    def versions(self) -> dict[str, str]:
        """Every distribution that the image should hold, by normalised name."""
        locked = {item.name: item.version for item in self.lock.distributions}
        return {**locked, RUNTIME: runtime.version()}

    def need(self, *names: str) -> None:
        """Skip the test, aloud, if the target's lock lacks one of these distributions."""
        if missing := [name for name in names if name not in self.versions]:
            pytest.skip(f"not in this target's lock: {', '.join(missing)}")


def read_subject(matrix_path: Path, target_id: str, store_path: Path) -> Subject:
    """Read all three; an error names what is missing."""
    found = matrix.load(matrix_path)
    target = found.target(target_id)
    source = store.open_store(store_path, create=False)
    return Subject(
        target,
        lock.read(found, target),
        found.lock_path(target_id),
        source,
        source.load(target_id),
    )
