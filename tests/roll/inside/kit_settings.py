"""The configuration that ROLL's pipeline reads, for the tiny model on GPUs or on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kit_tiny

PROMPT_LENGTH, RESPONSE_LENGTH = 32, 16
LEARNING_RATE = 5e-3
_ENGINE: dict[str, Any] = {
    "load_format": "dummy",
    "mem_fraction_static": 0.3,
    "max_running_requests": 32,
    "log_level": "info",
    "cuda_graph_max_bs": 4,
    # Of a KV cache, 4 GiB: other engines are on the device, of this session or of another image's.
    # SGLang gives up where they took as much while it loaded as its share of what was free before.
    "max_total_tokens": 1 << 21,
}
_CPU_ENGINE: dict[str, Any] = {
    "load_format": "dummy",
    "mem_fraction_static": 0.3,
    "max_running_requests": 4,
    "log_level": "info",
    "device": "cpu",
    "attention_backend": "torch_native",
    "sampling_backend": "pytorch",
    "disable_cuda_graph": True,
    "enable_memory_saver": False,
    "disable_radix_cache": True,
    "disable_overlap_schedule": True,
    "max_total_tokens": 16384,
}


@dataclass(frozen=True)
class Where:
    """Where a session runs and keeps its files.

    Attributes:
        out: what it leaves.
        model: the tiny model.
        cpu: a rehearsal without a GPU.
    """

    out: Path
    model: Path
    cpu: bool


@dataclass(frozen=True)
class Devices:
    """Which devices of the node the roles have.

    Attributes:
        trainer: the trainer's, and the reference's.
        engines: those of the inference workers.
        per_engine: how many of them one engine has.
        node: how many the node gives.
    """

    trainer: tuple[int, ...] = (0,)
    engines: tuple[int, ...] = (0,)
    per_engine: int = 1
    node: int = 1


ONE = Devices()


def prepare(session: str) -> Where:
    """Make a session's folder and the model, from the environment that the tests give it."""
    out = Path(os.environ["ROLL_TEST_OUT"], session)
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)  # ROLL's log monitor writes below the working directory
    os.environ["ROLL_LOG_DIR"] = str(out / "logs")
    model = kit_tiny.write_model(Path(os.environ["ROLL_TEST_OUT"], "model"))
    return Where(out, model, os.environ.get("ROLL_TEST_CPU") == "1")


def document(where: Where, devices: Devices = ONE, **engine_changes: Any) -> dict[str, Any]:
    """The whole configuration; on one device trainer, engine and reference are colocated."""
    role = {"dtype": "bf16", "attn_implementation": "sdpa", "disable_gradient_checkpointing": True}
    generating = {
        "max_new_tokens": RESPONSE_LENGTH,
        "top_p": 0.99,
        "top_k": 100,
        "num_beams": 1,
        "temperature": 0.99,
        "num_return_sequences": 2,
    }
    fsdp = {
        "fsdp_size": 1,
        "param_dtype": "bf16",
        "reduce_dtype": "float32",
        "reshard_after_forward": True,
        "offload_policy": False,
    }
    template = {"template": "native"}
    return {
        "exp_name": "tiny",
        "seed": 42,
        "logging_dir": str(where.out / "logs"),
        "output_dir": str(where.out / "output"),
        "profiler_output_dir": str(where.out / "output"),
        "length_profiler_dir": str(where.out / "output"),
        "checkpoint_config": {},
        "track_with": "stdout",
        "num_gpus_per_node": devices.node,
        "max_steps": 2,
        "save_steps": 1,
        "logging_steps": 1,
        "rpc_timeout": 300,
        "rollout_batch_size": 8,
        "prompt_length": PROMPT_LENGTH,
        "response_length": RESPONSE_LENGTH,
        "num_return_sequences_in_group": 2,
        "ppo_epochs": 1,
        "adv_estimator": "reinforce",
        "whiten_advantages": True,
        "max_running_requests": 16,
        "pretrain": str(where.model),
        "reward_pretrain": str(where.model),
        "actor_train": {
            "model_args": role,
            "training_args": {
                "learning_rate": LEARNING_RATE,
                "lr_scheduler_type": "constant",
                "per_device_train_batch_size": 4,
                "gradient_accumulation_steps": 4,
                "warmup_steps": 0,
            },
            "data_args": {
                **template,
                "file_name": [str(where.out / "data.jsonl")],
                "messages": "messages",
                "domain_interleave_probs": {"math_rule": 1.0},
                "preprocessing_num_workers": 1,
            },
            "strategy_args": {"strategy_name": "fsdp2_train", "strategy_config": fsdp},
            "infer_batch_size": 4,
            "device_mapping": _mapping(devices.trainer),
        },
        "actor_infer": {
            "model_args": {"dtype": "bf16"},
            "generating_args": generating,
            "data_args": template,
            "strategy_args": {
                "strategy_name": "sglang",
                "strategy_config": {**(_CPU_ENGINE if where.cpu else _ENGINE), **engine_changes},
            },
            "num_gpus_per_worker": devices.per_engine,
            "infer_batch_size": 1,
            "device_mapping": _mapping(devices.engines),
            "system_envs": _cores(devices) if where.cpu else {},
        },
        "reference": {
            "model_args": role,
            "data_args": template,
            "strategy_args": {"strategy_name": "fsdp2_infer", "strategy_config": fsdp},
            "infer_batch_size": 4,
            "device_mapping": _mapping(devices.trainer),
        },
        "rewards": {
            "math_rule": {
                "worker_cls": "roll.pipeline.rlvr.rewards.math_rule_reward_worker"
                ".MathRuleRewardWorker",
                "model_args": {"model_name_or_path": str(where.model)},
                "data_args": template,
                "tag_included": [kit_tiny.TAG],
                "world_size": 1,
                "infer_batch_size": 1,
            }
        },
    }


def _mapping(devices: Sequence[int]) -> str:
    """As ROLL evaluates it."""
    return str(list(devices))


def _cores(devices: Devices) -> dict[str, str]:
    """SGLang on a CPU wants a NUMA node for each rank, or a list of the cores that they share."""
    if devices.per_engine == 1:
        return {}
    return {"SGLANG_CPU_OMP_THREADS_BIND": "|".join(map(str, range(devices.per_engine)))}


def read(content: dict[str, Any]) -> Any:
    """ROLL's own object of it, as its start scripts make it."""
    from dacite import from_dict
    from omegaconf import OmegaConf
    from roll.pipeline.rlvr.rlvr_config import RLVRConfig

    plain = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    return from_dict(data_class=RLVRConfig, data=plain)
