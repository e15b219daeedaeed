"""Weight updates outside of a session: each gets one of its own, where SGLang demands it.

SGLang 0.5.23 refuses weights from tensors or by broadcast, unless `begin_weight_update` was called
before and `end_weight_update` is called after (`scheduler_components/weight_updater.py`). ROLL
(`sglang_strategy.py` at 8eb27cc2) does neither and does not look at the answer: a colocated job
would generate with its first weights forever, and the trainer of a separate one waits for a
receiver that never comes. A session that the caller has opened is left to the caller.
"""

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from roll_runtime.marks import is_ours, mark

OWNER = "SchedulerWeightUpdaterManager"
"""The class that holds the handlers, imported by the scheduler's module."""

UPDATES = ("update_weights_from_tensor", "update_weights_from_distributed")
BEGIN, END = "begin_weight_update", "end_weight_update"
SESSION = "_session"
"""The owner's attribute: the open session, or `None`."""

BEGIN_REQUEST, END_REQUEST = "BeginWeightUpdateReqInput", "EndWeightUpdateReqInput"
SELECTOR = "selector"
"""The field of an update and of a session that says which models: the target, its draft, or all."""


def patch_updates(module: ModuleType) -> None:
    """Wrap the updates that need a session; idempotent, and nothing where there is none.

    Args:
        module: `sglang.srt.managers.scheduler`, executed.
    """
    owner = vars(module).get(OWNER)
    if not hasattr(owner, BEGIN):
        return
    for name in UPDATES:
        upstream = getattr(owner, name, None)
        if callable(upstream) and not is_ours(upstream):
            setattr(owner, name, _in_a_session(upstream))


def _in_a_session(upstream: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(upstream)
    def update(self: Any, request: Any) -> Any:
        if getattr(self, SESSION) is not None:
            return upstream(self, request)
        records: Any = importlib.import_module("sglang.srt.managers.io_struct")
        models = {SELECTOR: getattr(request, SELECTOR)}
        getattr(self, BEGIN)(getattr(records, BEGIN_REQUEST)(**models))
        try:
            return upstream(self, request)
        finally:
            # All ranks of an engine get the same requests in order, so their barriers meet.
            getattr(self, END)(getattr(records, END_REQUEST)())

    return mark(update)
