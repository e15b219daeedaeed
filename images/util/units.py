"""Sizes in bytes as users write them: `60MB`, `4.3GB`, `512MiB`."""

from __future__ import annotations

import re

UNITS = {
    "B": 1,
    **{"K": 10**3, "M": 10**6, "G": 10**9},
    **{"KB": 10**3, "MB": 10**6, "GB": 10**9},
    **{"KIB": 2**10, "MIB": 2**20, "GIB": 2**30},
}
"""Bytes of a unit, by its upper-case name."""

_AMOUNT = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))? ?([A-Za-z]*)")


def parse(text: str) -> int:
    """Return the number of bytes that a text stands for; without a unit it is in bytes.

    Raises:
        ValueError: it is not a size, has an unknown unit, or is not a positive whole number.
    """
    found = _AMOUNT.fullmatch(text)
    unit = UNITS.get(found[3].upper() or "B") if found else None
    if found is None or unit is None:
        raise ValueError(f"{text!r} is not a size")
    fraction = found[2] or ""
    amount, rest = divmod(int(found[1] + fraction) * unit, int("1" + "0" * len(fraction)))
    if rest or amount < 1:
        raise ValueError(f"{text!r} is not a whole number of bytes above zero")
    return amount
