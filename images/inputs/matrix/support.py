"""Checks of a row against other sources: compilers, builds of torch, roll_runtime's table.

Like the rules of values, each returns a message, or None if all is well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from images.inputs import compilers
from images.inputs.matrix import rules

# The CUDA version of the torch wheels on the public index itself, for a row without a lock.
_TORCH_CUDA = {
    "2.6.0": "12.4",
    "2.7.1": "12.6",
    "2.8.0": "12.8",
    "2.9.1": "12.8",
    "2.11.0": "13.0",
    "2.13.0": "13.0",
    "2.14.1": "13.0",
}


def compiler_serves(version: str, row_cuda: str) -> str | None:
    """Check whether a compiler fits a row's CUDA version of the same major version.

    A compiler that uses the runtime headers of the target must be of the same minor version.
    """
    sources = compilers.BY_VERSION.get(version)
    if sources and sources.runtime and row_cuda != version:
        return f"the compiler of toolkit {version} cannot serve CUDA {row_cuda}, only {version}"
    return None


def torch_cuda(torch: str, lock: Path) -> tuple[str | None, str]:
    """Return the CUDA version that a torch is built for, or None, and the source of it.

    The lock is used only if it is of this version of torch: after a change of the row it is still
    of the former one.
    """
    try:
        text = lock.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        text = ""
    locked = re.search(r"^torch==([^\s;\\+]+)", text, re.MULTILINE)
    if locked and rules.release(locked[1]) == rules.release(torch):
        runtime = re.search(
            r"^nvidia-cuda-runtime(?:-cu[0-9]+)?==([0-9]+\.[0-9]+)", text, re.MULTILINE
        )
        if runtime:
            return runtime[1], f"as {lock.name} has it"
    return _TORCH_CUDA.get(".".join(rules.release(torch))), "as the index has it"


def runtime_support(table: Path, versions: Iterable[str]) -> tuple[str | None, dict[str, str]]:
    """Check SGLang versions by roll_runtime's table.

    Args:
        table: the Python file of the table.
        versions: the versions.

    Returns:
        The fault of the table itself, or None; and a message for each version that it refuses.
    """
    try:
        module = _load(table)
        listed = ", ".join(module.SUPPORTED)
        refused = {
            text: f"SGLang {text} is not supported by roll_runtime: the nearest is "
            f"{module.nearest(text)}; all: {listed}"
            for text in versions
            if not module.is_supported(text)
        }
    except Exception as error:  # the code of the table may raise anything
        cause = (f"{type(error).__name__}: {error}".splitlines() or [""])[0]
        return f"roll_runtime's table of SGLang versions cannot be read: {table}: {cause}", {}
    return None, refused


def _load(path: Path) -> Any:
    """Run a file as a module that cannot be imported afterwards."""
    import importlib.util
    import sys

    name = "_roll_runtime_versions"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks up its own module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.modules.pop(name, None)
    return module
