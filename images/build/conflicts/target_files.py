"""The files of a target's distributions, compared before its layers are made.

Wheels in the download cache and layers in the store are compared at once; other wheels as they
arrive, each before its layer is begun; a wheel that is built from an sdist after its layer is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from images import format_numbers
from images.build.conflicts import image_files
from images.build.titles import Kind
from images.inputs.lock.target_lock import Lock
from images.util import sha256

if TYPE_CHECKING:
    from images.build.conflicts.comparison import Comparison
    from images.build.recipe import Recipe
    from images.inputs.matrix.records import Target
    from images.oci.store.store import Store


def pending(
    target: Target, lock: Lock, recipes: Sequence[Recipe], store: Store
) -> Comparison | None:
    """Return the comparison to make; None where it was made of the same inputs before."""
    note = f"compared-{target.id}", _key(target, lock, recipes).encode()
    if store.files.read(note[0]) == note[1]:
        return None
    from images.build.conflicts.comparison import Comparison

    return Comparison(target, lock, note)


def _key(target: Target, lock: Lock, recipes: Iterable[Recipe]) -> str:
    """Return the digest of all that decides about the outcome.

    The layer of `roll_runtime` counts by its files' names alone: it changes with each commit.
    """
    keys = [recipe.key for recipe in recipes if recipe.kind is not Kind.RUNTIME]
    rules = [list(rule[:3]) for rule in lock.conflicts]
    own = sorted(image_files.of(target.toolkit))
    return sha256.of_json(
        {"format": format_numbers.COMPARED_FILES, "layers": keys, "own": own, "rules": rules}
    )


def compare(target: Target, lock: Lock, cache: Path, passed: set[object]) -> None:
    """Compare the wheels of a target that are in the download cache.

    Args:
        target: the target.
        lock: its lock.
        cache: the download cache.
        passed: what was compared without a conflict; targets of the same files are compared once.

    Raises:
        ConflictError, MatrixError: as `Comparison.stop`.
        IntegrityError: a file is not a wheel.
    """
    from images.build.conflicts.comparison import Comparison

    inputs = (lock, target.flavour, frozenset(image_files.of(target.toolkit)))
    if inputs in passed:
        return
    made = Comparison(target, lock)
    made.see_cached(lock.distributions, cache)
    made.stop()
    passed.add(inputs)
