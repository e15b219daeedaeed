"""Notes which kernels compilers are asked for, so that an image's build can compile them.

Runs in the image, as `sitecustomize.py` in a directory of PYTHONPATH: in every process. Each call
of `triton.compile`, and of `load_jit` for SGLang's own kernels, is a line of the file that
`KERNEL_RECORDING` names, as `images/content/kernels/triton_worker.py` and `sglang_worker.py` read
them. `merged` makes a recording of such lines.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "KERNEL_RECORDING"

TRITON, SGLANG = "triton", "sglang"
"""The members of a recording: lists of what each compiler was asked for."""

_COMPILER = "triton.compiler.compiler"


def merged(lines: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the kernels of all lines, each once, in an order that does not depend on theirs.

    The order of a signature stays: it is that of the arguments.
    """
    found: dict[str, list[dict[str, Any]]] = {SGLANG: [], TRITON: []}
    for line in sorted(set(map(str.strip, lines))):
        for owner, kernel in json.loads(line).items():
            found[owner].append(kernel)
    found[TRITON].sort(key=lambda kernel: (kernel["function"], json.dumps(kernel)))
    return found


def written(recording: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Return the text of a recording: a member of a kernel is a line, as is one of its source."""
    owners = (
        f' "{owner}": [' + ",".join(map(_written, kernels)) + "]"
        for owner, kernels in recording.items()
    )
    return "{\n" + ",\n".join(owners) + "\n}\n"


def _written(kernel: dict[str, Any]) -> str:
    members = {name: json.dumps(value) for name, value in kernel.items()}
    if "source" in kernel:
        members["source"] = json.dumps(kernel["source"], indent=1).replace("\n", "\n   ")
    return (
        "\n  {\n" + ",\n".join(f'   "{name}": {text}' for name, text in members.items()) + "\n  }"
    )


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


def _record_triton(compiler: Any) -> None:
    """Have `triton.compile` note what it is asked for."""
    compile_ = compiler.compile

    def noted_now(source: Any, target: Any, options: dict[str, Any]) -> dict[str, Any]:
        backend = compiler.make_backend(target or compiler.driver.active.get_current_target())
        found, defaults = (vars(backend.parse_options(given)) for given in (options, {}))
        return noted(source, found, defaults)

    def compile(source: Any, target: Any = None, options: Any = None) -> Any:
        _append(TRITON, lambda: noted_now(source, target, dict(options or {})))
        return compile_(source, target=target, options=options)

    compiler.compile = compile


def _record_sglang(module: Any) -> None:
    """Have SGLang's `load_jit` note what it is asked for; roll_runtime has patched it by now."""
    load = getattr(module, "load_jit", None)
    if load is None or hasattr(load, "__recorded__"):
        return

    @functools.wraps(load, updated=())
    def load_jit(*args: Any, **kwargs: Any) -> Any:
        _append(SGLANG, lambda: {"name": [str(arg) for arg in args], "options": kwargs})
        return load(*args, **kwargs)

    # By roll_runtime's mark it does not patch the module that imports this one's function, which
    # would answer before this is asked; by torch's, its `disable` finds the function below (2.9).
    marks = {name: value for name, value in vars(load).items() if "torchdynamo" not in name}
    vars(load_jit).update({**marks, "__wrapped__": load, "__recorded__": True})
    # Of the process: SGLang 0.5.6's module does not import torch itself.
    module.load_jit = importlib.import_module("torch").compiler.disable(load_jit)


def _append(owner: str, note: Callable[[], dict[str, Any]]) -> None:
    try:
        line = json.dumps({owner: note()})
        with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except Exception as error:
        print(f"kernel_recorder: not noted: {error!r}", file=sys.stderr)


_RECORDED: dict[str, Callable[[Any], None]] = {
    _COMPILER: _record_triton,
    "sglang.jit_kernel.utils": _record_sglang,
    "sglang.kernels.jit.utils.compile": _record_sglang,
    "sglang.kernels.jit.utils.compile.loader": _record_sglang,
}
"""The modules, and what has each note what it is asked for."""


class _Loader(importlib.abc.Loader):
    """Loads such a module, and has it note what it is asked for."""

    def __init__(self, name: str, loader: importlib.abc.Loader) -> None:
        self._name, self._loader = name, loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _RECORDED[self._name](module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds such modules, each once."""

    def __init__(self) -> None:
        self._left = set(_RECORDED)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._left:
            return None
        self._left.remove(name)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            spec.loader = _Loader(name, spec.loader)
        return spec


if __name__ == "sitecustomize" and os.environ.get(VARIABLE):
    sys.meta_path.insert(0, _Finder())
