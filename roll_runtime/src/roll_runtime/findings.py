"""Results of the checks of `roll_runtime.doctor`."""

from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was checked.
        status: whether the engine's start would fail (`fail`), may suffer (`warn`), or not.
        found: what there is.
        remedy: what to do, empty when nothing is.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""
