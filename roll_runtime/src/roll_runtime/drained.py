"""Flushes and releases that wait until the scheduler has finished its last batch.

The scheduler sends a request's last token, and for one more turn of its loop counts the request as
running: its batch is set aside when the next one is planned, and with overlap one superfluous
step is in flight. A client that has all answers and flushes or releases at once may meet that turn.
Then the flush does nothing (ROLL does not read its answer), so that prompts meet keys and values of
the former weights; a release of SGLang 0.5.4 and later ends the scheduler by an assertion.

So these two are delayed for a few turns, and what arrives behind them as well, in order. The number
is
fixed: all ranks of an engine take the same requests at the same turn and must go on doing so. The
loop turns by itself, idle or not, so nothing is delayed for longer than some turns take.
"""

import functools
from collections import deque
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from roll_runtime.marks import is_ours, mark

NEEDS_IDLE = frozenset({"FlushCacheReqInput", "ReleaseMemoryOccupationReqInput"})
"""Requests that need an idle scheduler, by class name."""

TURNS = 3
"""One turn for the batch that is in flight, one for its result, one to spare."""

METHOD = "process_input_requests"
"""The scheduler's method that takes what has arrived, once in each turn of its loop."""

_LINE = "_roll_runtime_line"


class Line:
    """The requests that wait, in the order in which they arrived."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._turns = 0

    def due(self, arrived: Iterable[Any]) -> list[Any]:
        """Return the requests to handle in this turn.

        Args:
            arrived: the requests that arrived since the turn before.
        """
        self._waiting.extend(arrived)
        due: list[Any] = []
        if self._turns:
            self._turns -= 1
            if self._turns:
                return due
            due.append(self._waiting.popleft())
        while self._waiting:
            if needs_idle(self._waiting[0]):
                self._turns = TURNS
                break
            due.append(self._waiting.popleft())
        return due


def needs_idle(request: object) -> bool:
    """Return whether a request is delayed; one of several tokenizers wraps it in another."""
    return type(getattr(request, "obj", request)).__name__ in NEEDS_IDLE


def patch_turns(module: ModuleType) -> None:
    """Wrap the scheduler's intake; idempotent.

    Args:
        module: `sglang.srt.managers.scheduler`, executed.
    """
    scheduler = vars(module).get("Scheduler")
    upstream = getattr(scheduler, METHOD, None)
    if callable(upstream) and not is_ours(upstream):
        setattr(scheduler, METHOD, _in_line(upstream))


def _in_line(upstream: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(upstream)
    def process_input_requests(self: Any, requests: Any) -> Any:
        line = vars(self).setdefault(_LINE, Line())
        return upstream(self, line.due(requests or ()))

    return mark(process_input_requests)
