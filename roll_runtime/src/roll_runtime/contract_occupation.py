"""The contract of `occupation.py` and `drained.py`, checked in SGLang's source."""

import ast
from collections.abc import Callable, Iterator

from roll_runtime.drained import METHOD, NEEDS_IDLE
from roll_runtime.occupation import ANSWERS, OWNERS
from roll_runtime.syntax import find_class, find_class_in, find_function, parameters

SCHEDULER = "sglang/srt/managers/scheduler.py"
IO_STRUCT = "sglang/srt/managers/io_struct.py"
CONSTANTS = "sglang/srt/constants.py"

Read = Callable[[str], "str | None"]


def occupation_faults(read: Read) -> Iterator[str]:
    """Yield what is missing for release and resume: each a sentence.

    Args:
        read: returns a file's text by its path in the wheel, or `None`.
    """
    scheduler = parsed(read, SCHEDULER)
    if scheduler is None:
        return
    used = {node.attr for node in ast.walk(scheduler) if isinstance(node, ast.Attribute)}
    records, tags = parsed(read, IO_STRUCT), False
    for name, answer in ANSWERS.items():
        handler = _handler(read, scheduler, name)
        if handler is None:
            yield f"{SCHEDULER}: no {name} in {' or '.join(OWNERS)}"
            continue
        if len(parameters(handler)) != 2:
            yield f"{SCHEDULER}: {name} takes {parameters(handler)}, not (self, request)"
        if name not in used:
            yield f"{SCHEDULER}: {name} is not looked up as an attribute"
        if find_class_in(records, answer) is None:
            yield f"{IO_STRUCT}: no class {answer}"
        tags = tags or any(
            isinstance(node, ast.Attribute) and node.attr == "tags" for node in ast.walk(handler)
        )
    intake = _method(read, scheduler, "Scheduler", METHOD)
    for name in sorted(NEEDS_IDLE):
        if find_class_in(records, name) is None:
            yield f"{IO_STRUCT}: no class {name}"
    if intake is None or len(parameters(intake)) != 2:
        yield f"{SCHEDULER}: no Scheduler.{METHOD}(self, requests)"
    if tags and not _has_tags(parsed(read, CONSTANTS)):
        yield f"{CONSTANTS}: no GPU_MEMORY_TYPE_… for the tags of a release"


def _handler(read: Read, scheduler: ast.Module, name: str) -> ast.FunctionDef | None:
    """Return a handler's definition, as the scheduler's module finds it."""
    for owner in OWNERS:
        found = _method(read, scheduler, owner, name)
        if found is not None:
            return found
    return None


def _method(read: Read, tree: ast.Module, owner: str, name: str) -> ast.FunctionDef | None:
    """Return a method of a class that a module defines or imports, or of one of its bases."""
    there, defined = class_seen_by(read, tree, owner)
    if there is None or defined is None:
        return None
    found = find_function(defined, name)
    for base in defined.bases if found is None else ():
        if isinstance(base, ast.Name) and found is None:
            found = _method(read, there, base.id, name)
    return found


def class_seen_by(
    read: Read, tree: ast.Module, name: str
) -> tuple[ast.Module | None, ast.ClassDef | None]:
    """Return a class that a module defines or imports, and the module that defines it."""
    if (defined := find_class(tree, name)) is not None:
        return tree, defined
    home = next(
        (
            node.module
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            and node.module is not None
            and name in [alias.name for alias in node.names]
        ),
        None,
    )
    there = parsed(read, f"{home.replace('.', '/')}.py") if home is not None else None
    return there, find_class_in(there, name)


def _has_tags(constants: ast.Module | None) -> bool:
    return constants is not None and any(
        isinstance(node, ast.Name) and node.id.startswith("GPU_MEMORY_TYPE_")
        for node in ast.walk(constants)
    )


def parsed(read: Read, path: str) -> ast.Module | None:
    """Return a file of the wheel, parsed; `None` if it has none of that path."""
    text = read(path)
    return ast.parse(text, path) if text is not None else None
