"""The sign of roll_runtime's own functions and objects, so that nothing is wrapped twice.

Python's start imports this (`user.py`), so it imports nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

MARK = "__roll_runtime__"


def is_ours(value: object) -> bool:
    """Return whether a function or object is roll_runtime's."""
    return getattr(value, MARK, False) is True


def mark(wrapper: "T") -> "T":
    """Mark a function as ours and return it."""
    setattr(wrapper, MARK, True)
    return wrapper
