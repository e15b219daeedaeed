"""The contract of `shared_prompts.py`, checked in SGLang's source."""

import ast
from collections.abc import Iterator

from roll_runtime import versions
from roll_runtime.contract_occupation import SCHEDULER, Read, parsed
from roll_runtime.shared_prompts import (
    BATCH,
    DELIMITER,
    FLAG,
    GENERATES,
    METHOD,
    MODEL,
    RANGE,
    SETTINGS,
    UNCOUNTED,
)
from roll_runtime.syntax import annotated, find_class_in, find_function

SCHEDULE_BATCH = "sglang/srt/managers/schedule_batch.py"
MODEL_CONFIG = "sglang/srt/configs/model_config.py"
SERVER_ARGS = "sglang/srt/server_args.py"


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
    if patched and (batch is None or method is None or not {FLAG, MODEL} <= {*annotated(batch)}):
        yield f"{SCHEDULE_BATCH}: no {BATCH} with {FLAG}, {MODEL} and {METHOD}"
    if patched:
        yield from _exceptions_faults(read, scheduler)
    uncounted = versions.in_range(version, *UNCOUNTED)
    if method is not None and _reads_flag(method, "self") != uncounted:
        yield f"{SCHEDULE_BATCH}: in {METHOD} {_breach('self', uncounted, UNCOUNTED)}"


def _exceptions_faults(read: Read, scheduler: ast.Module) -> Iterator[str]:
    """Yield what is missing to know the engines whose batches are left as they are."""
    if f"self.{GENERATES} = " not in (read(MODEL_CONFIG) or ""):
        yield f"{MODEL_CONFIG}: {GENERATES} is not set"
    arguments = find_class_in(parsed(read, SERVER_ARGS), "ServerArgs")
    several_items = arguments is not None and DELIMITER in annotated(arguments)
    if several_items and not _imports(scheduler, SETTINGS):
        yield f"{SCHEDULER}: {SETTINGS} is not imported, and there is {DELIMITER}"


def _imports(module: ast.Module, name: str) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and name in (alias.asname or alias.name for alias in node.names)
        for node in module.body
    )


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
