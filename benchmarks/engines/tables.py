"""Tables of pulls: a row for each engine, a column for each image."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmarks.rivals.results import (
    OURS,
    Grouped,
    Reading,
    about,
    grouped,
    line,
    megabytes,
    spread,
)

PULLS = {
    "cold": "an empty node",
    "bump": "one small pin bumped",
    "low": "a pin of the lowest bucket bumped",
    "flavour": "a flavour",
    "second": "a second target on the same torch",
}
"""What is pulled, onto a node that has the first image (but for `cold`)."""
GOAL = 1.5
"""How many times longer a rival's image must take on an empty node."""

Pulls = Mapping[tuple[str, str], Grouped]
"""The readings of each engine and each image."""


def tables(
    document: Mapping[str, Any], engines: Mapping[str, str], images: Mapping[str, str]
) -> str:
    """Return all tables, in Markdown.

    Args:
        document: of the results.
        engines: their titles by name.
        images: titles of the rivals whose images they are.
    """
    measured: Mapping[str, Mapping[str, Reading]] = document["readings"]
    found = {
        (engine, image): grouped(measured[f"{engine} {image}"])
        for engine in engines
        for image in images
        if measured.get(f"{engine} {image}")
    }
    shown = {name: title for name, title in images.items() if any(key[1] == name for key in found)}
    fields = {"seconds": "seconds", "MB fetched": "fetched", "MB of disk added": "disk"}
    parts = [_table(what, field, found, engines, shown) for what, field in fields.items()]
    parts += [_goals(found, engines, shown), _limits(found, engines, shown)]
    return "\n".join([about(document), *parts])


def _table(
    what: str, field: str, found: Pulls, engines: Mapping[str, str], images: Mapping[str, str]
) -> str:
    text = line([f"{what} (times ours)", "engine", *images.values()])
    text += "|---" * (len(images) + 2) + "|\n"
    show = spread if field == "seconds" else megabytes
    for step, pulled in PULLS.items():
        for engine, title in engines.items():
            values = {image: _values(found, engine, image, step, field) for image in images}
            if not any(values.values()):
                continue
            cells = [pulled, title]
            for image, each in values.items():
                ratio = _ratio(each, values.get(OURS, [])) if image != OURS else None
                note = f" ({ratio:.3g}x)" if ratio else ""
                cells.append(show(each) + note if each else "-")
            text += line(cells)
    return text


def _goals(found: Pulls, engines: Mapping[str, str], images: Mapping[str, str]) -> str:
    rivals = {name: title for name, title in images.items() if name != OURS}
    text = line([f"an empty node: {GOAL} times", *rivals.values()])
    text += "|---" * (len(rivals) + 1) + "|\n"
    for engine, title in engines.items():
        mine = _values(found, engine, OURS, "cold", "seconds")
        each = (_values(found, engine, name, "cold", "seconds") for name in rivals)
        ratios = [_ratio(values, mine) for values in each]
        if any(ratios):
            text += line([title, *(_judged(ratio) for ratio in ratios)])
    return text


def _judged(ratio: float | None) -> str:
    return f"{ratio:.3g}, {'reached' if ratio >= GOAL else 'missed'}" if ratio else "-"


def _limits(found: Pulls, engines: Mapping[str, str], images: Mapping[str, str]) -> str:
    """Return what the machine was busy with: of its processors, the averages of the pull."""
    names = ("written", "cpu", "busy", "waiting", "load")
    heads = ("seconds until the disk has it", "CPU seconds of the engine")
    text = line(["an empty node", "image", *heads, *names[2:]])
    text += "|---" * (len(names) + 2) + "|\n"
    for (engine, image), readings in found.items():
        if cold := readings.get("cold"):
            figures = (median(item[name] for item in cold) for name in names)
            text += line([engines[engine], images[image], *(f"{each:.2f}" for each in figures)])
    return text


def _values(found: Pulls, engine: str, image: str, step: str, field: str) -> list[float]:
    return [reading[field] for reading in found.get((engine, image), {}).get(step, ())]


def _ratio(values: list[float], mine: list[float]) -> float | None:
    return median(values) / median(mine) if values and mine and median(mine) > 0 else None
