"""The documentation's tables, written from the tables that the code runs by.

`python -m roll_runtime.tables docs/roll-runtime.md` renews the parts between the markers
`<!-- table: NAME -->` and `<!-- end -->`; a test fails when they differ.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from roll_runtime import args, remedies, versions
from roll_runtime.policy import NAMES, POLICY, Kind, rules_for

_DIRECTORIES = (Kind.WORKSPACE, Kind.CACHE, Kind.MANAGER)
"""Kinds of variables whose values are paths of this machine or of the image."""

_PART = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *([*row] for row in rows)]
    return "".join(f"| {' | '.join(cell.replace('|', '¦') for cell in line)} |\n" for line in lines)


def _range(since: str | None, before: str | None) -> str:
    covered = [item for item in versions.SUPPORTED if versions.in_range(item, since, before)]
    if len(covered) == len(versions.SUPPORTED):
        return "all"
    return covered[0] if len(covered) == 1 else f"{covered[0]} to {covered[-1]}"


def supported() -> str:
    """Return the supported releases."""
    rows = (
        (
            release.version,
            "yes" if release.roll else "no: roll_runtime replaces it",
            "yes" if release.fp8 else "refused",
        )
        for release in versions.RELEASES
    )
    return _table(("SGLang", "ROLL's own dispatch knows it", "block FP8 on load"), rows)


def policy() -> str:
    """Return the environment policy: one row for a rule."""
    rows = (
        (
            f"`{rule.name}`",
            _range(rule.since, rule.before),
            rule.upstream,
            rule.kind.value + (f" `{rule.value}`" if rule.value else ""),
            rule.reason,
        )
        for rule in POLICY
    )
    return _table(("variable", "SGLang", "SGLang itself", "roll_runtime", "why"), rows)


def expected(version: str) -> dict[str, str]:
    """Return what an engine's children see when no variable is set; `-` means unset."""
    seen = dict.fromkeys(NAMES, "-")
    for rule in rules_for(version):
        if rule.kind is Kind.KEEP:
            seen[rule.name] = rule.value
        elif rule.kind in (Kind.DERIVE, Kind.UPSTREAM):
            # Neither symmetric memory nor NVLS is requested.
            seen[rule.name] = "0"
    return seen


def defaults() -> str:
    """Return the outcome per version, with no argument and no variable set."""
    caches = {rule.name for rule in POLICY if rule.kind in _DIRECTORIES}
    names = [name for name in NAMES if name not in caches]
    rows = (
        (version, *(expected(version)[name] for name in names)) for version in versions.SUPPORTED
    )
    return _table(("SGLang", *(f"`{name}`" for name in names)), rows)


def arguments() -> str:
    """Return the arguments that some releases lack."""
    rows = [
        (f"`{name}`", gap.since, "dropped when false, else refused", gap.remedy)
        for name, gap in args.DROPPED_WHEN_FALSE.items()
    ]
    rows += [(f"`{name}`", gap.since, "dropped", gap.remedy) for name, gap in args.DROPPED.items()]
    rows += [
        (f"`{name}`", gap.since or "-", "refused by name", gap.remedy)
        for name, gap in args.KNOWN.items()
    ]
    return _table(("argument", "from SGLang", "where it is missing", "remedy"), rows)


def errors() -> str:
    """Return the errors that are known, and their remedies."""
    rows = (
        (f"`{pattern}`", found.cause, found.action.value, found.remedy)
        for pattern, found in remedies.RULES
    )
    return _table(("in the log", "what happened", "in short", "what helps"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "supported": supported,
    "policy": policy,
    "defaults": defaults,
    "arguments": arguments,
    "errors": errors,
}


def renew(text: str) -> str:
    """Return a document with every table between its markers rewritten.

    Raises:
        KeyError: the document names a table that does not exist.
    """
    return _PART.sub(lambda part: part[1] + TABLES[part[2]]() + part[3], text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        document = Path(name)
        document.write_text(renew(document.read_text(encoding="utf-8")), encoding="utf-8")
