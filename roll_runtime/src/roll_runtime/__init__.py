"""Makes every supported SGLang start inside a ROLL rollout worker.

This module is imported at the start of every interpreter of an image (see `_hooks`), so it
imports nothing; its names are resolved when they are first asked for.
"""

# Type checkers take this name for true. Importing `typing` would cost each interpreter 8 ms.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from roll_runtime.args import engine_args
    from roll_runtime.env import prepare_engine_env
    from roll_runtime.patch import apply
    from roll_runtime.placement import check_worker_config, engine_count
    from roll_runtime.remedies import diagnose

__all__ = [
    "__version__",
    "apply",
    "check_worker_config",
    "diagnose",
    "engine_args",
    "engine_count",
    "prepare_engine_env",
]

__version__ = "0.1.0"

_HOMES = {
    "apply": "roll_runtime.patch",
    "check_worker_config": "roll_runtime.placement",
    "diagnose": "roll_runtime.remedies",
    "engine_args": "roll_runtime.args",
    "engine_count": "roll_runtime.placement",
    "prepare_engine_env": "roll_runtime.env",
}


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'roll_runtime' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
