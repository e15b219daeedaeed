"""The flavours of matrix.yaml: the difference of `torch280-sglang052-roll` to `torch280-sglang052`.

A flavour is a second lock for the same engine: it keeps the locked file of each distribution of the
plain target, except those that its overrides name. Its date therefore applies only to what the
flavour adds.
"""

from __future__ import annotations

from typing import NamedTuple

from images.inputs.matrix import entries, rules
from images.inputs.matrix.entries import Entries
from images.inputs.matrix.yaml_table import Table
from images.util.suggest import nearest

_KEYS = ("why", "debian", *entries.KEYS)


class Flavour(NamedTuple):
    """One entry of `flavours`.

    Attributes:
        name: the suffix of the ids of its targets.
        own: its entries, which follow those of the defaults and of the row.
        debian: the names of the Debian packages that it adds, sorted.
    """

    name: str
    own: Entries
    debian: tuple[str, ...]


def read(top: Table) -> dict[str, Flavour]:
    """Read and check the flavours that the file defines; return them by name."""
    return {name: _flavour(name, top) for name in top.mapping("flavours")}


def _flavour(name: str, top: Table) -> Flavour:
    node = top.mapping("flavours")[name]
    if wrong := rules.flavour(name):
        top.faults.add(node.line, f"flavours: {wrong}")
    table = Table(node, f"the flavour {name!r}", _KEYS, top.faults, rules.other_platform)
    table.text("why")
    debian = table.texts("debian", rules.debian_package)
    return Flavour(name, entries.read(table, flavour=True), tuple(sorted(set(debian))))


def named(table: Table, flavours: dict[str, Flavour]) -> list[Flavour] | None:
    """Return the flavours that defaults or a row name, or None if they have no such key."""
    if "flavours" not in table:
        return None

    def known(text: str) -> str | None:
        if text in flavours:
            return None
        return f"no flavour {text!r} is defined under `flavours`{nearest(text, flavours)}"

    names = table.texts("flavours", known)
    for name in {name for name in names if names.count(name) > 1}:
        table.fault("flavours", f"{name!r} is here twice")
    return [flavours[name] for name in names]
