"""What every session begins with: ROLL's modules, and a Ray that ROLL itself starts."""

from __future__ import annotations

import importlib
import sys

_MODULES = (
    "roll.distributed.scheduler.initialize",
    "roll.pipeline.base_worker",
    "roll.pipeline.rlvr.actor_worker",
    "roll.pipeline.rlvr.rlvr_pipeline",
    "roll.pipeline.rlvr.rewards.math_rule_reward_worker",
    "roll.pipeline.agentic.agentic_pipeline",
    "roll.distributed.strategy.fsdp2_strategy",
    "roll.distributed.strategy.hf_strategy",
    "roll.distributed.strategy.sglang_strategy",
)
"""By name, and first: ROLL swallows a worker's ImportError and goes on with None."""


def check_imports() -> str:
    """Import what the sessions use; gives the versions."""
    for name in _MODULES:
        importlib.import_module(name)
    versions = [f"python {sys.version.split()[0]}"]
    for name in ("torch", "sglang", "ray", "numpy", "transformers", "accelerate"):
        versions.append(f"{name} {importlib.import_module(name).__version__}")
    platform = importlib.import_module("roll.platforms").current_platform
    return ", ".join([*versions, f"ROLL's platform is {platform.device_name}"])


def start_ray() -> str:
    """ROLL's own `init()`: `ray start --head` in a shell, then `ray.init`."""
    import ray
    from roll.distributed.scheduler.initialize import init

    init()
    found = ray.cluster_resources()
    return ", ".join(f"{name} {found[name]:g}" for name in ("CPU", "GPU") if name in found)
