"""Retry policy for all HTTP requests: number of attempts and exponential backoff."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may differ on the next attempt (RFC 9110, section 15; RFC 6585, section 4)."""


class TransientError(Exception):
    """An attempt failed; another one may succeed.

    Args:
        reason: one line, safe to print.
        after: seconds that the server asked to wait before the next attempt.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class FinalError(Exception):
    """An attempt failed, and no other one will succeed.

    Args:
        reason: one line, safe to print.
        remedy: what the user can do about it, if known.
    """

    def __init__(self, reason: str, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Policy:
    """A limited number of attempts with exponential backoff.

    Attributes:
        max_attempts: limit of consecutive failures without any progress between them.
        max_attempts_unreached: limit for a host that has not answered yet (probably a typo).
        base_delay: seconds before the second attempt; doubled for each one after it.
        max_delay: longest delay in seconds, unless the server asks for a longer one.
        max_retry_after: longest delay in seconds that a server may ask for.
    """

    max_attempts: int = 6
    max_attempts_unreached: int = 3
    base_delay: float = 0.5
    max_delay: float = 30.0
    max_retry_after: float = 300.0

    def is_exhausted(self, failures: int, *, reached: bool) -> bool:
        """Return whether no attempt is left.

        Args:
            failures: consecutive failures so far.
            reached: whether the host has ever answered.
        """
        return failures >= (self.max_attempts if reached else self.max_attempts_unreached)

    def delay(
        self,
        failures: int,
        after: float | None = None,
        chance: Callable[[], float] = random.random,
    ) -> float:
        """Return the seconds to wait before the next attempt.

        Half of the delay is random: clients that were rejected together must not come back
        together. The time that a server asks for is waited in full, and at most a second more.

        Args:
            failures: consecutive failures so far, at least 1.
            after: seconds that the server asked for.
            chance: returns random numbers from 0 to 1.
        """
        own = min(self.max_delay, self.base_delay * 2.0 ** (failures - 1)) * (0.5 + chance() / 2)
        return own if after is None else min(self.max_retry_after, after) + min(own, 1.0)


def retry_after(header: str | None) -> float | None:
    """Parse a Retry-After header into seconds (RFC 9110, section 10.2.3: seconds or a date)."""
    if header is None:
        return None
    from urllib3.exceptions import HTTPError
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(header)
    except (HTTPError, ValueError, OverflowError):
        return None
