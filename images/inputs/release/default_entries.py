"""What a person must check of the entries of `defaults` that a new row has as well."""

from __future__ import annotations

from collections.abc import Iterator

from images.errors import LockError
from images.inputs.lock import target_lock
from images.inputs.lock.target_lock import Lock
from images.inputs.matrix.change_rules import LeftOut
from images.inputs.matrix.records import Matrix

_RESTRICT = "restrict it with `sglang:`"


def questions(matrix: Matrix, lock: Lock) -> Iterator[str]:
    """Yield the entries that a build of a new row refuses, or may refuse.

    Args:
        matrix: the matrix without the row.
        lock: of the row.
    """
    for place, key, name in lock.idle_rules():
        yield (
            f"{place}: {key}: {name} is not in the lock, and the build will refuse the entry: "
            f"{_RESTRICT}"
        )
    versions = {item.name: item.version for item in lock.distributions}
    for entry in lock.left_out:
        version = versions.get(entry.distribution)
        if version and version not in _tried(matrix, entry):
            yield (
                f"{entry.location}: left_out: no other target with the entry has "
                f"{entry.distribution} {version}, and the build will refuse the entry if this "
                f"wheel has no such file: then {_RESTRICT}"
            )


def _tried(matrix: Matrix, entry: LeftOut) -> Iterator[str]:
    """Yield the versions of an entry's distribution in the targets that have the entry."""
    for target in matrix.targets:
        if target.engine or not any(one.location == entry.location for one in target.left_out):
            continue
        try:
            lock = target_lock.read(matrix, target)
        except LockError:
            continue
        yield from (item.version for item in lock.distributions if item.name == entry.distribution)
