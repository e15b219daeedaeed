"""Coexistence with ROLL's own patches (`roll/third_party/sglang`, read at 8eb27cc2).

ROLL replaces `_set_envs_and_config` by a copy without signals, package checks and cleanup, and
the scheduler's process target by one that patches FP8. Both are superseded here: upstream's own
functions run, inside roll_runtime's policy. `ROLL_RUNTIME_ROLL_PATCH=keep` leaves ROLL's.

ROLL's dispatch knows nine versions. On the other supported ones roll_runtime replaces it.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from roll_runtime import dispatch

log = logging.getLogger("roll_runtime")

KEEP_ROLL = "ROLL_RUNTIME_ROLL_PATCH"
"""Set to `keep`, ROLL's own patch stays in force where it was loaded."""

ENGINE = "sglang.srt.entrypoints.engine"

_TARGETS = {
    "run_scheduler_process": "sglang.srt.managers.scheduler",
    "run_data_parallel_controller_process": "sglang.srt.managers.data_parallel_controller",
}
"""Process targets that ROLL replaces in the engine module, and the modules that define them."""


def is_from_roll(value: object) -> bool:
    """Return whether a function or object comes from ROLL's patches, by module name or by file."""
    module = str(getattr(value, "__module__", ""))
    if module.startswith("roll.third_party.sglang"):
        return True
    filename = getattr(getattr(value, "__code__", None), "co_filename", "")
    return "/third_party/sglang/" in filename.replace(os.sep, "/")


def is_launch_wrapper(value: object) -> bool:
    """Return whether this is ROLL's object around `_launch_subprocesses`."""
    return type(value).__name__ == "_roll_launch_subprocesses"


def is_superseded(value: object) -> bool:
    """Return whether this is ROLL's and to be replaced by roll_runtime's."""
    return is_from_roll(value) and os.environ.get(KEEP_ROLL) != "keep"


def restore_targets(engine: ModuleType) -> None:
    """Give the engine module SGLang's own process targets back where ROLL replaced them."""
    for name, home in _TARGETS.items():
        current = getattr(engine, name, None)
        original = getattr(sys.modules.get(home), name, None)
        if original is None or current is None or not is_superseded(current):
            continue
        setattr(engine, name, original)
        log.info(
            "roll_runtime replaces ROLL's %s (%s=keep leaves ROLL's in force)",
            name,
            KEEP_ROLL,
        )


def execute_dispatch(module: ModuleType, execute: Callable[[ModuleType], Any]) -> None:
    """Execute `roll.third_party.sglang`; replace it where it refuses a supported SGLang.

    Args:
        module: ROLL's package, not executed yet.
        execute: executes it.

    Raises:
        NotImplementedError: neither ROLL nor roll_runtime supports the installed SGLang.
    """
    try:
        execute(module)
    except NotImplementedError:
        version = dispatch.sglang_version()
        if not dispatch.may_patch(version):
            raise
        log.info("ROLL does not know SGLang %s; roll_runtime's patch is used", version)
        engine = importlib.import_module(ENGINE)
        # What ROLL's strategy reads: `patch.engine.engine_module.Engine`.
        stand_in = SimpleNamespace(engine=SimpleNamespace(engine_module=engine))
        module.patch = stand_in  # type: ignore[attr-defined]
