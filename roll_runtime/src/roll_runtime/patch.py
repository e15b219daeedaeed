"""Patches of hooked modules after their import, and `apply`."""

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from roll_runtime import _hooks, dispatch, roll

log = logging.getLogger("roll_runtime")

AUTOLOAD = "ROLL_RUNTIME_AUTOLOAD"
"""`0`: nothing is patched unless `apply` is called."""

ENGINE = roll.ENGINE
SERVER_ARGS = "sglang.srt.server_args"
"""Imported before the engine by `sglang.launch_server`; what it downloads is looked for again."""

ROLL_DISPATCH = "roll.third_party.sglang"


def execute(name: str, module: ModuleType, exec_module: Callable[[ModuleType], Any]) -> None:
    """Execute a hooked module, then patch it. Called by the hook in place of `exec_module`.

    Raises:
        NotImplementedError: `name` is SGLang's engine and its version is not supported.
    """
    if name == ROLL_DISPATCH:
        roll.execute_dispatch(module, exec_module)
        return
    if name == ENGINE:
        # Before its code runs: the engine of an unsupported SGLang cannot be imported at all.
        dispatch.require_supported(dispatch.sglang_version())
    if name in (ENGINE, SERVER_ARGS):
        _settle_caches()
    exec_module(module)
    # Afterwards: ROLL's modules import SGLang only while they are executed.
    version = dispatch.sglang_version()
    if dispatch.may_patch(version):
        patch_module(name, module, version)


def _settle_caches() -> None:
    """Point compilers and SGLang at their caches before a module reads that at import.

    It is done again at launch, when ROLL and SGLang have set their own.
    """
    version = dispatch.sglang_version()
    if dispatch.may_patch(version):
        from roll_runtime import caches, triton_setting

        caches.settle(os.environ, version)
        triton_setting.settle(os.environ)


def patch_module(name: str, module: ModuleType, version: str) -> None:
    """Patch one executed module; only the engine's patch may fail the import."""
    try:
        home, _, function = _hooks.TARGETS[name].partition(":")
        getattr(importlib.import_module(home), function)(module, version)
    except Exception:
        if name == ENGINE:
            raise
        log.warning("roll_runtime could not patch %s of SGLang %s", name, version, exc_info=True)


def apply() -> None:
    """Patch SGLang in this process, and in every process that it spawns from an image.

    Idempotent, in any order with the hook of `roll_runtime.pth` and with ROLL's own patch.
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
        # A source tree without metadata: the hook reads its version when its engine is imported.
        return
    dispatch.require_supported(version)
    for name in _hooks.TARGETS:
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None)
        # One that is still being imported is patched by the hook when it is done.
        if name == ROLL_DISPATCH or module is None or getattr(spec, "_initializing", False):
            continue
        patch_module(name, module, version)


def plugin() -> None:
    """Entry point of SGLang's own plugin system (0.5.12 and later), under the same kill switch."""
    if os.environ.get(AUTOLOAD, "1") != "0":
        apply()
