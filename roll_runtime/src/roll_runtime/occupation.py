"""Release and resume of memory: tags that this SGLang can carry out are passed on, others dropped.

ROLL sends the same tags to every SGLang. The scheduler's handlers trust them: a tag that the
release does not know, or that is not released, ends in a `KeyError`; one that is released twice
in the end of the process by torch_memory_saver (from 0.0.9 on). The scheduler is dead then. So both
handlers are wrapped where the scheduler looks them up, with SGLang's own table of tags
(`sglang.srt.constants`) and its own set of what is released (`offload_tags`; kept here for the
releases that do not).
"""

import copy
import functools
import importlib
import logging
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from roll_runtime.marks import is_ours, mark

log = logging.getLogger("roll_runtime")

OWNERS = ("Scheduler", "SchedulerWeightUpdaterManager")
"""Classes that hold the handlers: the scheduler up to 0.5.12, later a part of it."""

RELEASE = "release_memory_occupation"
RESUME = "resume_memory_occupation"

ANSWERS = {
    RELEASE: "ReleaseMemoryOccupationReqOutput",
    RESUME: "ResumeMemoryOccupationReqOutput",
}
"""The answer that upstream's handler returns."""

_ALL = "all memory"
"""The one tag of 0.4.6, which has none of its own."""
_RELEASED = "_roll_runtime_released"


def patch_occupation(module: ModuleType, version: str) -> None:
    """Wrap the handlers that the scheduler's module has; idempotent.

    Args:
        module: `sglang.srt.managers.scheduler`, executed.
        version: SGLang's version, for the log.
    """
    dropped: set[tuple[str, str]] = set()
    for owner in (vars(module).get(name) for name in OWNERS):
        for name in ANSWERS:
            upstream = getattr(owner, name, None)
            if callable(upstream) and not is_ours(upstream):
                setattr(owner, name, _with_known_tags(upstream, name, version, dropped))


def known_tags() -> tuple[str, ...]:
    """Return the tags of this SGLang, from its own constants."""
    try:
        constants = vars(importlib.import_module("sglang.srt.constants"))
    except ModuleNotFoundError:
        return (_ALL,)
    named = [value for name, value in constants.items() if name.startswith("GPU_MEMORY_TYPE_")]
    return tuple(constants.get("GPU_MEMORY_ALL_TYPES", named)) or (_ALL,)


def _with_known_tags(
    upstream: Callable[..., Any], name: str, version: str, dropped: set[tuple[str, str]]
) -> Callable[..., Any]:
    @functools.wraps(upstream)
    def handler(self: Any, request: Any) -> Any:
        known, released = known_tags(), _released(self)
        requested = list(getattr(request, "tags", None) or ())
        wanted = known if not requested or known == (_ALL,) else tuple(dict.fromkeys(requested))
        tags = [tag for tag in wanted if tag in known and (tag in released) == (name == RESUME)]
        _report((tag for tag in wanted if tag not in tags), known, name, version, dropped)
        if not tags:
            # An empty list would mean all tags.
            return _answer(name)
        if tags != (requested or list(known)):
            request = copy.copy(request)
            request.tags = tags
        answer = upstream(self, request)
        # The same that upstream did, where it keeps such a set.
        (released.difference_update if name == RESUME else released.update)(tags)
        return answer

    return mark(handler)


def _released(owner: Any) -> set[str]:
    """Return the tags whose memory is released: SGLang's own set, or one that is kept here."""
    tags = getattr(owner, "offload_tags", None)
    found: set[str] = vars(owner).setdefault(_RELEASED, set()) if tags is None else tags
    return found


def _report(
    tags: Iterable[str],
    known: tuple[str, ...],
    name: str,
    version: str,
    dropped: set[tuple[str, str]],
) -> None:
    """Log each dropped tag once: ROLL sends the same ones at every step."""
    for tag in tags:
        if (name, tag) in dropped:
            continue
        dropped.add((name, tag))
        if tag not in known:
            why = f"SGLang {version} has no such tag, it has {', '.join(known)}"
        elif name == RESUME:
            why = "its memory is not released"
        else:
            why = "its memory is released already"
        log.warning("%s: the tag %s is ignored: %s", name, tag, why)


def _answer(name: str) -> Any:
    records = importlib.import_module("sglang.srt.managers.io_struct")
    return getattr(records, ANSWERS[name])()
