"""Facts of Python source, from its syntax tree."""

import ast
from collections.abc import Iterator


def find_function(owner: ast.Module | ast.ClassDef, name: str) -> ast.FunctionDef | None:
    """Return the last function of this name in a module or class body, or `None`."""
    found = [node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return found[-1] if found else None


def find_class(owner: ast.Module, name: str) -> ast.ClassDef | None:
    """Return the last class of this name in a module, or `None`."""
    found = [node for node in owner.body if isinstance(node, ast.ClassDef) and node.name == name]
    return found[-1] if found else None


def find_class_in(owner: ast.Module | None, name: str) -> ast.ClassDef | None:
    """Return the same of a module that may not be there."""
    return find_class(owner, name) if owner is not None else None


def parameters(function: ast.FunctionDef) -> list[str]:
    """Return the names of a function's parameters, without `*args` and `**kwargs`."""
    arguments = function.args
    return [item.arg for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def annotated(record: ast.ClassDef) -> Iterator[str]:
    """Yield the names that a class body annotates: a dataclass's fields."""
    for node in record.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def imports_plainly(node: ast.stmt, name: str) -> bool:
    """Return whether a statement is `import name`, under this very name."""
    return isinstance(node, ast.Import) and any(
        alias.name == name and alias.asname in (None, name) for alias in node.names
    )


def attribute_of(call: ast.Call) -> str:
    """Return `b` of a call `a.b()`, else an empty string."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def owner_of(call: ast.Call) -> str:
    """Return `a` of a call `a.b()`, else an empty string."""
    return ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def calls_with_guard(tree: ast.AST, guarded: bool = False) -> Iterator[tuple[ast.Call, bool]]:
    """Yield every call, and whether it is below `if … main_thread() …`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield node, guarded
        if isinstance(node, ast.If) and "main_thread" in ast.unparse(node.test):
            negated = any(isinstance(part, (ast.Not, ast.IsNot)) for part in ast.walk(node.test))
            for part in node.body:
                yield from calls_with_guard(ast.Module([part], []), guarded or not negated)
            for part in node.orelse:
                yield from calls_with_guard(ast.Module([part], []), guarded or negated)
            continue
        yield from calls_with_guard(node, guarded)
