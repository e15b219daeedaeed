"""Release the engine's GPU memory and take it back, as ROLL does between rollouts.

torch_memory_saver returns the memory of the KV cache and of the weights to the driver and keeps
their addresses. Their contents are lost: ROLL sends the trainer's weights after each release, so
here they are loaded again from disk before tokens are compared.
"""

import asyncio
import dataclasses
import importlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from roll_runtime import gpu, nvml, smoke_model

POOL_TOKENS = 1 << 20
"""The KV cache's size in this test: 2 GiB, well above what else moves meanwhile."""

_POOL_MIB = POOL_TOKENS * smoke_model.TOKEN_BYTES >> 20

_SETTLE = 1.0
"""How long the scheduler may need to see that it is idle, in seconds; it refuses while it is
not."""


def check_memory(used: dict[str, int]) -> list[str]:
    """Return what is wrong with the memory in use, a sentence each.

    Args:
        used: MiB in use, `running`, `released` and `resumed`.
    """
    faults = []
    given_back = used["running"] - used["released"]
    taken = used["resumed"] - used["released"]
    if given_back < _POOL_MIB * 9 // 10:
        faults.append(f"a release gave back {given_back} MiB, and the KV cache has {_POOL_MIB}")
    if taken < _POOL_MIB * 9 // 10:
        faults.append(f"a resume took {taken} MiB, and the KV cache has {_POOL_MIB}")
    return faults


async def cycle(
    engine: Any,
    arguments: dict[str, Any],
    result: dict[str, Any],
    generate: Callable[[], Awaitable[list[int]]],
) -> None:
    """Release, resume, load the weights again, generate; note what is wrong.

    Args:
        engine: SGLang's engine.
        arguments: what it was started with.
        result: gets `memory_mib`, `release_s`, `resume_s` and `restored_ids`; holds
            `output_ids`, the tokens of the same request before.
        generate: makes that request.
    """
    if not arguments["enable_memory_saver"]:
        result["faults"].append("torch_memory_saver is not installed: memory cannot be released")
        return
    gpus = [device["pci"] for device in gpu.ask_in_child().get("devices", [])]
    used = {"running": nvml.used_mib(gpus)}
    await asyncio.sleep(_SETTLE)
    before = time.monotonic()
    await _release(engine)
    result["release_s"] = round(time.monotonic() - before, 3)
    used["released"] = nvml.used_mib(gpus)
    before = time.monotonic()
    await _resume(engine, arguments["model_path"])
    result["resume_s"] = round(time.monotonic() - before, 3)
    used["resumed"] = nvml.used_mib(gpus)
    result["memory_mib"] = used
    known = {name: value for name, value in used.items() if value is not None}
    if len(known) < len(used):
        result["faults"].append("libnvidia-ml.so.1 does not report the GPU memory in use")
    else:
        result["faults"] += check_memory(known)
    result["restored_ids"] = await generate()
    if result["restored_ids"] != result["output_ids"]:
        result["faults"].append(
            f"after a release and with the same weights again, {result['restored_ids']} came, "
            f"not {result['output_ids']}"
        )


def _requests() -> Any:
    return importlib.import_module("sglang.srt.managers.io_struct")


async def _release(engine: Any) -> None:
    # The engine's own method waits on its loop, which is this one: call the manager, as ROLL does.
    await engine.tokenizer_manager.release_memory_occupation(
        _requests().ReleaseMemoryOccupationReqInput(), None
    )


async def _resume(engine: Any, model: str) -> None:
    """Resume the weights, load them, then resume the rest; all at once on 0.4.6, without tags."""
    record = _requests().ResumeMemoryOccupationReqInput
    manager = engine.tokenizer_manager
    if not _has_tags(record):
        await manager.resume_memory_occupation(record(), None)
        await _load(manager, model)
        return
    await manager.resume_memory_occupation(record(tags=["weights"]), None)
    await _load(manager, model)
    await manager.resume_memory_occupation(record(tags=_other_tags()), None)


def _has_tags(record: Any) -> bool:
    if dataclasses.is_dataclass(record):
        return any(field.name == "tags" for field in dataclasses.fields(record))
    return "tags" in getattr(record, "__struct_fields__", ())


def _other_tags() -> list[str]:
    """Return what a release without tags releases, besides the weights."""
    constants = importlib.import_module("sglang.srt.constants")
    every = getattr(constants, "GPU_MEMORY_ALL_TYPES", ["kv_cache", "weights"])
    return [tag for tag in every if tag != "weights"]


async def _load(manager: Any, model: str) -> None:
    """Load the weights from disk again: a weight update.

    Raises:
        RuntimeError: the engine did not; the message is its reason.
    """
    answer = await manager.update_weights_from_disk(
        _requests().UpdateWeightFromDiskReqInput(model_path=model), None
    )
    if not answer[0]:
        raise RuntimeError(f"the weights could not be loaded again: {answer[1]}")
