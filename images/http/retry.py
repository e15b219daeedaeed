"""How often something is tried, and how long the pauses are: one policy for all of HTTP here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be another one the next time (RFC 9110, section 15; RFC 6585, section 4)."""


class PassingError(Exception):
    """An attempt failed in a way that may pass.

    Args:
        reason: one line, fit to be shown.
        after: seconds that the server asked for before the next attempt.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class FinalError(Exception):
    """An attempt failed in a way that no other one will help.

    Args:
        reason: one line, fit to be shown.
        remedy: what a person can do, where there is something to be said.
    """

    def __init__(self, reason: str, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounded attempts with exponential pauses.

    Attributes:
        attempts: failures in a row, without any progress between them, that end it.
        strangers: the same for a host that has never answered: most likely it is misspelt.
        first: seconds before the second attempt; doubled for each one after it.
        longest: seconds that no pause of ours is longer than.
        patience: seconds that no pause that a server asks for is longer than.
    """

    attempts: int = 6
    strangers: int = 3
    first: float = 0.5
    longest: float = 30.0
    patience: float = 300.0

    def pause(
        self,
        failures: int,
        after: float | None = None,
        chance: Callable[[], float] = random.random,
    ) -> float:
        """Seconds to wait.

        Half of a pause is by chance: clients that were turned away together must not come back
        together. What a server asks for is waited for in full, and a little of ours on top.

        Args:
            failures: in a row until now, at least 1.
            after: seconds that the server asked for.
            chance: gives numbers from 0 to 1.
        """
        own = min(self.longest, self.first * 2.0 ** (failures - 1)) * (0.5 + chance() / 2)
        return own if after is None else min(self.patience, after) + min(own, 1.0)


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, section 10.2.3: seconds or a date)."""
    if header is None:
        return None
    from urllib3.exceptions import HTTPError
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(header)
    except (HTTPError, ValueError, OverflowError):
        return None
