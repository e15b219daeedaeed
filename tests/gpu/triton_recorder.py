"""Notes which kernels Triton is asked for, so that an image's build can compile them.

Runs in the image, as `sitecustomize.py` in a directory of PYTHONPATH: in every process. Each call
of `triton.compile` is a line of the file that `TRITON_RECORDING` names, in the form that
`images/content/kernels/triton_worker.py` reads. `merged` makes a recording of such lines.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "TRITON_RECORDING"

_COMPILER = "triton.compiler.compiler"


def merged(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return the kernels of all lines, each once, in an order that does not depend on theirs.

    The order of a signature stays: it is that of the arguments.
    """
    found: list[dict[str, Any]] = [json.loads(line) for line in set(map(str.strip, lines))]
    return sorted(found, key=lambda kernel: (kernel["function"], json.dumps(kernel)))


def written(kernels: Iterable[dict[str, Any]]) -> str:
    """Return the text of a recording: a member of a kernel is a line, as is one of its source."""
    return "[\n" + ",\n".join(map(_written, kernels)) + "\n]\n"


def _written(kernel: dict[str, Any]) -> str:
    members = {name: json.dumps(value) for name, value in kernel.items()}
    members["source"] = json.dumps(kernel["source"], indent=1).replace("\n", "\n  ")
    return " {\n" + ",\n".join(f'  "{name}": {text}' for name, text in members.items()) + "\n }"


def noted(source: Any, options: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return what decides a kernel beside Triton, the function's source and the GPU.

    Args:
        source: an `ASTSource` of Triton.
        options: all options that it is compiled with.
        defaults: those without any that was asked for.

    Raises:
        TypeError: a constant is of a type that JSON has no form for here.
    """
    function = source.fn
    path = inspect.getsourcefile(function.fn) or ""
    installed = "/site-packages/" in path
    return {
        "function": function.__name__,
        "module": function.__module__ if installed else "",
        "signature": source.signature,
        "constants": [[list(where), _plain(value)] for where, value in source.constants.items()],
        "attributes": [[list(where), value] for where, value in source.attrs.items()],
        "options": {
            name: _plain(value)
            for name, value in options.items()
            if name != "arch" and value != defaults.get(name)
        },
        "source": [] if installed else Path(path).read_text(encoding="utf-8").split("\n"),
    }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if type(value).__name__ == "dtype":
        return {"dtype": value.name}
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def _recording(compiler: ModuleType, compile_: Callable[..., Any]) -> Callable[..., Any]:
    """Return `triton.compile` that notes what it is asked for."""

    def compile(source: Any, target: Any = None, options: Any = None) -> Any:
        try:
            _append(compiler, source, target, dict(options or {}))
        except Exception as error:
            print(f"triton_recorder: {source!r}: {error!r}", file=sys.stderr)
        return compile_(source, target=target, options=options)

    return compile


def _append(compiler: Any, source: Any, target: Any, options: dict[str, Any]) -> None:
    backend = compiler.make_backend(target or compiler.driver.active.get_current_target())
    found, defaults = (vars(backend.parse_options(given)) for given in (options, {}))
    line = json.dumps(noted(source, found, defaults))
    with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


class _Loader(importlib.abc.Loader):
    """Loads Triton's compiler, and has it note what it is asked for."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: Any) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.compile = _recording(module, module.compile)  # type: ignore[attr-defined]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Triton's compiler."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != _COMPILER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)
        return spec


if __name__ == "sitecustomize" and os.environ.get(VARIABLE):
    sys.meta_path.insert(0, _Finder())
