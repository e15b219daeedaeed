"""From ROLL's worker configuration to engines."""

import ast
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from roll_runtime.args import INFER_BATCH_SIZE_IGNORED, MEM_FRACTION_STATIC

log = logging.getLogger("roll_runtime")

_ROLL_INFER_BATCH_SIZE = 16
"""`WorkerConfig.infer_batch_size`'s own default (roll/configs/worker_config.py): nobody set it."""


def parse_device_mapping(text: str) -> list[int]:
    """Read ROLL's textual `device_mapping`: `list(range(0,8))`, `range(8)` or `[0, 1]`.

    ROLL evaluates the text as Python; here only these forms are read, and `+` between them.

    Raises:
        ValueError: any other form.
    """
    try:
        return _read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError) as error:
        raise ValueError(
            f"device_mapping {text!r} is not a list of GPU numbers: write for example "
            "`list(range(0,8))` or `[0, 1, 2, 3]`."
        ) from error


def _read(node: ast.expr) -> list[int]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _read(node.left) + _read(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id == "list" and len(node.args) == 1:
            return _read(node.args[0])
        if node.func.id == "range":
            return list(range(*(ast.literal_eval(argument) for argument in node.args)))
    value = ast.literal_eval(node)
    if not isinstance(value, (list, tuple)) or not all(type(item) is int for item in value):
        raise ValueError(value)
    return list(value)


def _divisors(number: int) -> Iterable[int]:
    return (candidate for candidate in range(1, number + 1) if number % candidate == 0)


def engine_count(device_mapping: Sequence[int] | str, num_gpus_per_worker: int) -> int:
    """Return how many SGLang engines ROLL starts: one per worker.

    Args:
        device_mapping: the GPUs of the role over all nodes, as a sequence or as ROLL's text.
        num_gpus_per_worker: GPUs of one engine.

    Raises:
        ValueError: no GPUs, a GPU named twice or below 0, a worker size below 1, or a size that
            does not divide the number of GPUs.
    """
    if isinstance(device_mapping, str):
        devices = parse_device_mapping(device_mapping)
    else:
        devices = list(device_mapping)
    if not devices:
        raise ValueError("device_mapping is empty: an SGLang worker needs at least one GPU.")
    if min(devices) < 0:
        raise ValueError(f"device_mapping names GPU {min(devices)}: numbers start at 0.")
    twice = sorted({device for device in devices if devices.count(device) > 1})
    if twice:
        raise ValueError(f"device_mapping names GPU {', '.join(map(str, twice))} more than once.")
    if num_gpus_per_worker < 1:
        raise ValueError(
            f"num_gpus_per_worker={num_gpus_per_worker}: an SGLang worker needs at least one GPU."
        )
    engines, rest = divmod(len(devices), num_gpus_per_worker)
    if rest:
        sizes = ", ".join(map(str, _divisors(len(devices))))
        raise ValueError(
            f"device_mapping has {len(devices)} GPUs, which num_gpus_per_worker="
            f"{num_gpus_per_worker} does not divide: {rest} would be left over. "
            f"Set num_gpus_per_worker to one of {sizes}, or change device_mapping by "
            f"{num_gpus_per_worker - rest} more or {rest} fewer GPUs."
        )
    return engines


def check_worker_config(config: Any) -> list[str]:
    """Complete a ROLL worker configuration for SGLang and warn about what has no effect.

    `mem_fraction_static` gets its documented default of 0.7 (ROLL itself raises KeyError).

    Args:
        config: ROLL's `WorkerConfig`, or anything with its attributes.

    Returns:
        The warnings, which are logged as well.

    Raises:
        ValueError: `device_mapping` and `num_gpus_per_worker` do not fit (see
            `engine_count`).
    """
    devices = getattr(config, "device_mapping", None)
    if devices:
        engine_count(devices, getattr(config, "num_gpus_per_worker", 1))
    warnings = []
    batch = getattr(config, "infer_batch_size", None)
    if batch not in (None, _ROLL_INFER_BATCH_SIZE):
        warnings.append(INFER_BATCH_SIZE_IGNORED % batch)
    strategy = getattr(getattr(config, "strategy_args", None), "strategy_config", None)
    if strategy is not None:
        strategy.setdefault("mem_fraction_static", MEM_FRACTION_STATIC)
        if strategy.get("pipeline_parallel_size", 1) != 1:
            warnings.append(
                f"pipeline_parallel_size={strategy['pipeline_parallel_size']} only counts nodes in "
                "ROLL and never reaches SGLang: the model is not split by pipeline."
            )
    for warning in warnings:
        log.warning("%s", warning)
    return warnings
