"""The contract of `weight_session.py`, checked in SGLang's source."""

import ast
from collections.abc import Iterator

from roll_runtime.contract_occupation import IO_STRUCT, SCHEDULER, Read, class_seen_by, parsed
from roll_runtime.syntax import annotated, find_class_in, find_function, parameters
from roll_runtime.weight_session import (
    BEGIN,
    BEGIN_REQUEST,
    END,
    END_REQUEST,
    OWNER,
    SELECTOR,
    SESSION,
    UPDATES,
)


def weight_session_faults(read: Read) -> Iterator[str]:
    """Yield what is missing to open a session for an update, where there are sessions.

    Args:
        read: returns a file's text by its path in the wheel, or `None`.
    """
    scheduler = parsed(read, SCHEDULER)
    if scheduler is None:
        return
    _, owner = class_seen_by(read, scheduler, OWNER)
    if owner is None or find_function(owner, BEGIN) is None:
        if any(
            isinstance(node, ast.Attribute) and node.attr == BEGIN for node in ast.walk(scheduler)
        ):
            yield f"{SCHEDULER}: {BEGIN} is not {OWNER}'s"
        return
    if SESSION not in annotated(owner):
        yield f"{SCHEDULER}: {OWNER} has no {SESSION}"
    for name in (BEGIN, END, *UPDATES):
        handler = find_function(owner, name)
        if handler is None or len(parameters(handler)) != 2:
            yield f"{SCHEDULER}: no {OWNER}.{name}(self, request)"
    records = parsed(read, IO_STRUCT)
    begin = find_class_in(records, BEGIN_REQUEST)
    if begin is None or SELECTOR not in annotated(begin):
        yield f"{IO_STRUCT}: no {BEGIN_REQUEST} with {SELECTOR}"
    if find_class_in(records, END_REQUEST) is None:
        yield f"{IO_STRUCT}: no class {END_REQUEST}"
