"""Readings in a file, written one by one, and the tables made of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.rivals.floor import Rates, Work

Reading = dict[str, Any]

OURS = "ours"
_ROUND = re.compile(r"-\d+$")
_WHAT = {
    "build first": "cold build: base not made (ours), uv's cache empty, nothing packed (rivals)",
    "build cold": "cold build on the base, warm downloads",
    "build same": "nothing changed",
    "build runtime": "`roll_runtime` changed",
    "build bump": "one small pin bumped",
    "build second": "second target on the same torch",
    "push cold": "first push",
    "push runtime": "push, `roll_runtime` changed",
    "push bump": "push, pin bumped",
    "push second": "push of the second target",
    "pull cold": "pull onto an empty node",
    "pull runtime": "pull, `roll_runtime` changed",
    "pull bump": "pull, pin bumped",
    "pull second": "pull of the second target",
}
"""Steps without their round, in the table's order."""
_SUMS = {
    "cold build and first push": ("build cold", "push cold"),
    "`roll_runtime` changed, build and push": ("build runtime", "push runtime"),
    "pin bumped, build and push": ("build bump", "push bump"),
    "second target, build and push": ("build second", "push second"),
}
_GOALS = (
    ("cold build and first push", ("build cold", "push cold"), "seconds", 3),
    ("pin bumped, build and push", ("build bump", "push bump"), "seconds", 30),
    ("pin bumped, bytes pushed", ("push bump",), "sent", 50),
    ("pin bumped, pull", ("pull bump",), "seconds", 30),
    ("pin bumped, bytes pulled", ("pull bump",), "fetched", 50),
    ("nothing changed", ("build same",), "seconds", 1),
    ("`roll_runtime` changed", ("build runtime",), "seconds", 1),
    ("`roll_runtime` changed, build and push", ("build runtime", "push runtime"), "seconds", 1),
)
"""Our goals: how many times faster or smaller than each rival."""


class Results:
    """The file.

    Args:
        path: of the JSON document; each change replaces it whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.document: dict[str, Any] = (
            json.loads(path.read_text())
            if path.exists()
            else {"machine": {}, "versions": {}, "rates": {}, "readings": {}}
        )

    def of(self, rival: str) -> dict[str, Reading]:
        """Return the readings of a rival by step."""
        found: dict[str, Reading] = self.document["readings"].setdefault(rival, {})
        return found

    def keep(self) -> None:
        """Write all readings."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps(self.document, indent=1) + "\n")
        partial.replace(self._path)


def tables(document: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """Return all tables, in Markdown."""
    measured = document["readings"]
    readings = {name: grouped(measured[name]) for name in titles if measured.get(name)}
    parts = [about(document), _seconds(readings, titles), _bytes(readings, titles)]
    if OURS in readings and len(readings) > 1:
        parts.append(_goals(readings, titles))
    if document["rates"] and OURS in readings:
        parts.append(_floors(readings[OURS], Rates(**document["rates"])))
    return "\n".join(parts)


Grouped = Mapping[str, Sequence[Reading]]


def grouped(readings: Mapping[str, Reading]) -> Grouped:
    """Return the readings of a step together, without their round."""
    found: dict[str, list[Reading]] = {}
    for step, reading in readings.items():
        found.setdefault(_ROUND.sub("", step), []).append(reading)
    return found


def about(document: Mapping[str, Any]) -> str:
    """Return the line about the machine and the programs."""
    machine = ", ".join(f"{name} {text}" for name, text in document["machine"].items())
    programs = {
        f"{program} {version}"
        for versions in document["versions"].values()
        for program, version in versions.items()
    }
    return f"Machine: {machine}. Rivals: {', '.join(sorted(programs))}.\n"


def line(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |\n"


def _head(first: str, readings: Mapping[str, Grouped], titles: Mapping[str, str]) -> str:
    return (
        line([first, *(titles[name] for name in readings)]) + "|---" * (len(readings) + 1) + "|\n"
    )


def _values(readings: Grouped, step: str, field: str) -> list[float]:
    return [reading[field] for reading in readings.get(step, ()) if field in reading]


def _seconds(readings: Mapping[str, Grouped], titles: Mapping[str, str]) -> str:
    rows = {what: (step,) for step, what in _WHAT.items()} | _SUMS
    text = _head("seconds (times ours)", readings, titles)
    for what, steps in rows.items():
        text += _row(what, readings, _summed(steps, "seconds"), spread)
    return text


def _summed(steps: Sequence[str], field: str) -> Callable[[Grouped], list[float]]:
    def values(found: Grouped) -> list[float]:
        each = [_values(found, step, field) for step in steps]
        return [sum(round_) for round_ in zip(*each, strict=False)]

    return values


def _bytes(readings: Mapping[str, Grouped], titles: Mapping[str, str]) -> str:
    text = _head("MB (times ours)", readings, titles)
    rows = [
        (what, step, "sent" if step.startswith("push") else "fetched") for step, what in _moved()
    ]
    rows += [(f"{what}: disk added", step, "disk") for step, what in _moved() if "pull" in step]
    rows += [("image compressed", "push cold", "compressed")]
    rows += [("peak memory, cold build", "build cold", "memory")]
    rows += [("peak memory, first push", "push cold", "memory")]
    for what, step, field in rows:
        text += _row(what, readings, _summed((step,), field), megabytes)
    counts = (str(int(median(_values(r, "push cold", "layers") or [0]))) for r in readings.values())
    return text + line(["layers", *counts])


def _moved() -> Iterator[tuple[str, str]]:
    return ((step, what) for step, what in _WHAT.items() if not step.startswith("build"))


def _row(
    what: str,
    readings: Mapping[str, Grouped],
    values: Callable[[Grouped], list[float]],
    show: Callable[[Sequence[float]], str],
) -> str:
    measured = {name: values(found) for name, found in readings.items()}
    if not any(measured.values()):
        return ""
    mine = measured.get(OURS)
    cells = [what]
    for name, found in measured.items():
        ratio = ""
        if found and mine and name != OURS and median(mine) > 0:
            ratio = f" ({median(found) / median(mine):.3g}x)"
        cells.append(show(found) + ratio if found else "-")
    return line(cells)


def _goals(readings: Mapping[str, Grouped], titles: Mapping[str, str]) -> str:
    rivals = {name: found for name, found in readings.items() if name != OURS}
    text = _head("goal", rivals, titles)
    for what, steps, field, goal in _GOALS:
        values = _summed(steps, field)
        mine = values(readings[OURS])
        cells = [f"{what}: {goal} times"]
        for found in map(values, rivals.values()):
            cells.append("-")
            if mine and found:
                ratio = median(found) / median(mine)
                cells[-1] = f"{ratio:.3g}, {'reached' if ratio >= goal else 'missed'}"
        text += line(cells)
    return text


def spread(values: Sequence[float]) -> str:
    """Return seconds: the median, and from the least to the most."""
    middle = median(values)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    text = f"{middle:.{digits}f}"
    if len(values) > 1:
        text += f" [{min(values):.{digits}f} to {max(values):.{digits}f}]"
    return text


def megabytes(values: Sequence[float]) -> str:
    """Return bytes: the median in MB."""
    return f"{median(values) / 1e6:,.{0 if median(values) >= 1e8 else 2}f}"


def _floors(readings: Grouped, rates: Rates) -> str:
    text = line(["ours", "seconds", "floor, s", "times the floor"]) + "|---" * 4 + "|\n"
    for step, what in _WHAT.items():
        found = [reading for reading in readings.get(step, ()) if "work" in reading]
        if found:
            seconds = median(reading["seconds"] for reading in found)
            floor = median(Work(**reading["work"]).floor(rates) for reading in found)
            ratio = f"{seconds / floor:.2f}" if floor else "-"
            text += line([what, f"{seconds:.2f}", f"{floor:.2f}", ratio])
    speeds = {"SHA-256": rates.sha256, "inflate": rates.inflate, "zstd": rates.compress}
    speeds |= {"unzstd": rates.decompress, "disk, written": rates.write}
    listed = ", ".join(f"{name} {value / 1e6:,.0f}" for name, value in speeds.items())
    start = f"Python starts in {rates.start:.3f} s"
    return f"{text}\nRates, MB/s (processors: of one core): {listed}; {start}.\n"
