"""Reports of what a Ray cluster did for a build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from images.commands.report.printing import table
from images.util.progress import size

if TYPE_CHECKING:
    from images.build.cluster.distribute import Result


def summary(result: Result, seconds: Mapping[str, float]) -> str:
    """Return the text on what each node made, what no worker made, and seconds per stage."""
    rows = []
    for node in sorted({made.node for made in result.made}):
        made = [item for item in result.made if item.node == node]
        spent = sum(item.seconds for item in made)
        total = size(sum(item.size for item in made))
        rows.append((f"layers made on {node}", f"{len(made)}, {total}", f"{spent:.1f} s"))
    if result.failed:
        rows.append(("layers left to this machine", str(len(result.failed)), ""))
    rows += [(stage, "", f"{spent:.2f} s") for stage, spent in seconds.items()]
    return f"cluster\n{table(rows, indent=2)}"
