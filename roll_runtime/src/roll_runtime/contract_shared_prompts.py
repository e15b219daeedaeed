"""The contract of `shared_prompts.py`, checked in SGLang's source."""

import ast
from collections.abc import Iterator

from roll_runtime import versions
from roll_runtime.contract_occupation import SCHEDULER, Read, parsed
from roll_runtime.shared_prompts import BATCH, FLAG, METHOD, RANGE, UNCOUNTED
from roll_runtime.syntax import annotated, find_class_in, find_function

SCHEDULE_BATCH = "sglang/srt/managers/schedule_batch.py"


def shared_prompts_faults(read: Read, version: str) -> Iterator[str]:
    """Yield what is missing for requests of several answers: each a sentence.

    A fault that is in a release beyond its range, or is gone within it, is reported as well.

    Args:
        read: returns a file's text by its path in the wheel, or `None`.
        version: the release, or `unknown`: then nothing is checked.
    """
    scheduler, batches = parsed(read, SCHEDULER), parsed(read, SCHEDULE_BATCH)
    if version == "unknown" or scheduler is None:
        return
    if batches is None:
        yield f"{SCHEDULE_BATCH}: there is no such file"
        return
    patched = versions.in_range(version, *RANGE)
    if _reads_flag(scheduler, "last_batch") != patched:
        yield f"{SCHEDULER}: {_breach('last_batch', patched, RANGE)}"
    batch = find_class_in(batches, BATCH)
    method = find_function(batch, METHOD) if batch is not None else None
    if patched and (batch is None or method is None or FLAG not in annotated(batch)):
        yield f"{SCHEDULE_BATCH}: no {BATCH} with {FLAG} and {METHOD}"
    uncounted = versions.in_range(version, *UNCOUNTED)
    if method is not None and _reads_flag(method, "self") != uncounted:
        yield f"{SCHEDULE_BATCH}: in {METHOD} {_breach('self', uncounted, UNCOUNTED)}"


def _breach(owner: str, wanted: bool, bounds: tuple[str, str]) -> str:
    """Return the words for a sign of a fault that is missing, or is there against the table."""
    since, until = bounds
    return f"{owner}.{FLAG} is {'not ' * wanted}read: expected from {since} until {until}"


def _reads_flag(code: ast.AST, owner: str) -> bool:
    """Return whether code reads the flag of a variable or an attribute."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == FLAG
        and isinstance(node.ctx, ast.Load)
        and owner in (getattr(node.value, "id", None), getattr(node.value, "attr", None))
        for node in ast.walk(code)
    )
