"""Directories for tests that those of pytest do not serve."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A new directory that every user may enter; those of pytest are closed to others."""
    with tempfile.TemporaryDirectory(prefix="roll-images-test-") as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


def remove(tree: Path) -> None:
    """Remove a tree with directories that their own user may not write, such as an image's."""
    for directory, names, _ in os.walk(tree):
        for path in (Path(directory, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(tree)
