"""What a rehearsal needs around ROLL, in each of its processes; imported by sitecustomize.

Two things, each only where its environment variable asks for it:

`ROLL_TEST_NO_ROUTE`: ROLL finds its address by a datagram socket to 8.8.8.8, which fails without a
route. Then 127.0.0.1 answers.

`ROLL_TEST_CPU`: without a GPU ROLL gets as far as its CPU platform, which lacks what its pipelines
ask of every platform. `kit_cpu` gives that; nothing of it is in place on a GPU.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import socket
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any


class _Socket(socket.socket):
    def connect(self, address: Any) -> None:
        if isinstance(address, tuple) and address[0] == "8.8.8.8":
            address = ("127.0.0.1", address[1])
        super().connect(address)


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        import kit_cpu

        self._loader.exec_module(module)
        kit_cpu.AFTER_IMPORT[module.__name__](module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the few modules that `kit_cpu` completes, by the finders behind this one."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(("roll.", "sglang.")):
            return None
        import kit_cpu

        if name not in kit_cpu.AFTER_IMPORT:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


def install() -> None:
    """Put in place what the environment asks for."""
    if os.environ.get("ROLL_TEST_NO_ROUTE") == "1":
        socket.socket = _Socket  # type: ignore[misc]
    if os.environ.get("ROLL_TEST_CPU") == "1":
        sys.meta_path.insert(0, _Finder())


install()
