"""The patch of `sglang/srt/managers/scheduler.py`."""

from types import ModuleType

from roll_runtime.drained import patch_turns
from roll_runtime.occupation import patch_occupation
from roll_runtime.remedies import install_filter
from roll_runtime.shared_prompts import patch_batches
from roll_runtime.weight_session import patch_updates


def patch_scheduler(module: ModuleType, version: str) -> None:
    """Patch the scheduler's module; idempotent.

    Args:
        module: `sglang.srt.managers.scheduler`, executed.
        version: SGLang's version.
    """
    install_filter()
    patch_occupation(module, version)
    patch_turns(module)
    patch_batches(module, version)
    patch_updates(module)
