"""Files of a distribution that are left out: by a rule of the matrix, another one's win.

The upper of two layers wins by itself. Only where the winner is not above the loser must something
be left out: then the loser's layer depends on the winner's wheel as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from images.build.grouping import Group
from images.build.titles import LayerName
from images.inputs.lock.distribution import Distribution
from images.inputs.matrix.conflict_rules import THE_IMAGE, Rule

if TYPE_CHECKING:
    from images.build.conflicts.detection import InstalledFiles


class Loss(NamedTuple):
    """A rule that changes a layer.

    Attributes:
        rule: the rule.
        winner: the distribution that wins; None where it is the image itself.
    """

    rule: Rule
    winner: Distribution | None


def of_groups(groups: Sequence[Group], rules: Iterable[Rule]) -> dict[LayerName, list[Loss]]:
    """Return the rules that change layers, by the layer's name.

    Args:
        groups: the layers of distributions, lowest first.
        rules: of the target.
    """
    rank = {
        item.name: number for number, group in enumerate(groups) for item in group.distributions
    }
    items = {item.name: item for group in groups for item in group.distributions}
    found: dict[LayerName, list[Loss]] = {}
    for rule in rules:
        number = rank.get(rule.over)
        winner = items.get(rule.winner)
        if number is None or (winner is None and rule.winner != THE_IMAGE):
            continue
        if winner is None or rank[winner.name] <= number:
            found.setdefault(groups[number].name, []).append(Loss(rule, winner))
    return found


def inputs(losses: Iterable[Loss]) -> list[list[str]]:
    """Return what decides about the files that are left out, for a layer's key."""
    return [
        [rule.path, rule.over, rule.winner, winner.artifact.sha256 if winner else ""]
        for rule, winner in losses
    ]


def paths(
    losses: Iterable[Loss],
    loser: Distribution,
    installed: Callable[[Distribution], InstalledFiles],
    own: Callable[[], InstalledFiles],
) -> frozenset[str]:
    """Return the paths in the image that a distribution does not install.

    Args:
        losses: the rules that change its layer.
        loser: the distribution.
        installed: returns what a distribution installs.
        own: returns the files of the image itself.
    """
    from images.build.conflicts.detection import lost

    found: set[str] = set()
    for rule, winner in losses:
        if rule.over == loser.name:
            found |= lost(rule, installed(winner) if winner else own(), installed(loser))
    return frozenset(found)
