"""What follows the import of each hooked module, and :func:`apply`."""

import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from roll_runtime import _hooks, dispatch, roll

log = logging.getLogger("roll_runtime")

#: ``0``: nothing is patched unless :func:`apply` is called.
AUTOLOAD = "ROLL_RUNTIME_AUTOLOAD"

ENGINE = roll.ENGINE
ROLL_DISPATCH = "roll.third_party.sglang"


def _patch_engine(module: ModuleType, version: str) -> None:
    from roll_runtime.engine import patch_engine

    patch_engine(module, version)


def _patch_records(module: ModuleType, version: str) -> None:
    from roll_runtime.records import patch_records

    patch_records(module, version)


def _patch_scheduler(module: ModuleType, version: str) -> None:
    from roll_runtime.drained import patch_turns
    from roll_runtime.occupation import patch_occupation
    from roll_runtime.remedies import install_filter

    install_filter()
    patch_occupation(module, version)
    patch_turns(module)


def _patch_fp8(module: ModuleType, version: str) -> None:
    from roll_runtime.fp8 import patch_fp8

    patch_fp8(module, version)


def _patch_activation(module: ModuleType, version: str) -> None:
    from roll_runtime.jit import patch_activation

    patch_activation(module, version)


def _patch_strategy(module: ModuleType, version: str) -> None:
    roll.patch_strategy(module)


_PATCHES: dict[str, Callable[[ModuleType, str], None]] = {
    ENGINE: _patch_engine,
    "sglang.jit_kernel.activation": _patch_activation,
    "sglang.srt.layers.quantization.fp8": _patch_fp8,
    "sglang.srt.managers.io_struct": _patch_records,
    "sglang.srt.managers.scheduler": _patch_scheduler,
    "sglang.srt.server_args": _patch_records,
    "roll.distributed.strategy.sglang_strategy": _patch_strategy,
}


def execute(name: str, module: ModuleType, exec_module: Callable[[ModuleType], Any]) -> None:
    """Execute a hooked module, then patch it. Called by the hook in place of ``exec_module``.

    Raises:
        NotImplementedError: ``name`` is SGLang's engine and its version is not supported.
    """
    if name == ROLL_DISPATCH:
        roll.execute_dispatch(module, exec_module)
        return
    if name == ENGINE:
        # Before its code runs: the engine of an unsupported SGLang is not to be had at all.
        dispatch.require_supported(dispatch.sglang_version())
    exec_module(module)
    # Asked for afterwards: ROLL's modules bring SGLang in only while they are executed.
    version = dispatch.sglang_version()
    if dispatch.may_patch(version):
        patch_module(name, module, version)


def patch_module(name: str, module: ModuleType, version: str) -> None:
    """Patch one executed module; only the engine's patch may fail the import."""
    try:
        _PATCHES[name](module, version)
    except Exception:
        if name == ENGINE:
            raise
        log.warning("roll_runtime could not patch %s of SGLang %s", name, version, exc_info=True)


def apply() -> None:
    """Patch SGLang in this process, and in every process that it spawns from an image.

    Idempotent, in any order with the hook of ``roll_runtime.pth`` and with ROLL's own patch.
    Modules that are imported already are patched now, the others when they are imported.

    Raises:
        ModuleNotFoundError: SGLang is not installed.
        NotImplementedError: the installed SGLang is not supported.
        RuntimeError: SGLang's engine lacks what the patch relies on.
    """
    _hooks.install()
    version = dispatch.sglang_version()
    if version == "unknown" and "sglang" not in sys.modules:
        if importlib.util.find_spec("sglang") is None:
            raise ModuleNotFoundError(
                "roll_runtime.apply() patches SGLang, which is not installed: pip install sglang."
            )
        # A source tree without metadata: it is asked, by the hook, when its engine is imported.
        return
    dispatch.require_supported(version)
    for name in _PATCHES:
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None)
        # One that is still being imported is patched by the hook when it is done.
        if module is not None and not getattr(spec, "_initializing", False):
            patch_module(name, module, version)


def plugin() -> None:
    """Entry point of SGLang's own plugin system (0.5.12 and later), under the same kill switch."""
    if os.environ.get(AUTOLOAD, "1") != "0":
        apply()
