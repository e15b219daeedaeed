"""Errors of a comparison: conflicts that no rule settles, and rules that settle no conflict."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from images.build.conflicts.detection import Conflict
from images.errors import ConflictError, MatrixError
from images.inputs.matrix.conflict_rules import THE_IMAGE, Rule

_SHOWN = 4  # conflicts of each two distributions in a message


def of_conflicts(where: str, found: Sequence[Conflict], missing: int) -> ConflictError:
    """Return the error of conflicts that no rule settles, with the paths of each pair.

    Args:
        where: the target.
        found: the conflicts; at least one.
        missing: how many distributions were not available and not compared.
    """
    lines = []
    pairs = sorted(found, key=lambda one: (one.lower, one.upper, one.path))
    for (lower, upper), group in groupby(pairs, lambda one: (one.lower, one.upper)):
        every = list(group)
        lines.append(f"  {_pair(lower, upper)}:")
        lines += [f"    {_path(one)}: {one.what}" for one in every[:_SHOWN]]
        lines += [f"    … and {len(every) - _SHOWN} more"] if len(every) > _SHOWN else []
    if missing:
        lines.append(f"  {missing} distributions are not available yet and were not compared")
    return ConflictError(
        f"{where}: files that cannot both be in the image:\n" + "\n".join(lines),
        remedy="leave one of the two out, lock a version without the file, or name the winner "
        f"in matrix.yaml:\n{_example(pairs[0])}",
    )


def _pair(lower: str, upper: str) -> str:
    if lower == THE_IMAGE:
        return f"{upper} would replace the image's own files"
    return f"{lower} and {upper}, whose layer is the upper one and would win"


def _example(conflict: Conflict) -> str:
    """Return a matrix entry for a conflict in which the upper layer, or the image itself, wins."""
    ours = conflict.lower == THE_IMAGE
    winner, over = conflict[2:4] if ours else conflict[3:1:-1]
    path = conflict.path if ours else conflict.other
    return (
        f"    conflicts:\n      - path: /{path}\n        winner: {winner}\n"
        f"        over: {over}\n        why: …"
    )


def _path(conflict: Conflict) -> str:
    if conflict.path == conflict.other:
        return f"/{conflict.path}"
    return f"/{conflict.path} and /{conflict.other}"


def of_unused_rules(where: str, rules: Sequence[Rule]) -> MatrixError:
    """Return the error of rules that settle no conflict."""
    lines = "".join(
        f"\n  {rule.location}: {rule.path}: {rule.winner} over {rule.over}" for rule in rules
    )
    return MatrixError(
        f"{where}: these entries of `conflicts:` settle no conflict:{lines}",
        remedy="remove them, or restrict them with `sglang:` or `cuda:` to the targets that have "
        "the conflict",
    )
