"""Keyword arguments: dropped, refused by name, or set to ROLL's default.

ROLL passes the same arguments to every SGLang; releases differ in what they take. An argument that
a release lacks is dropped where the value requests nothing (ROLL's `False`), and refused by
name where it requests something.
"""

import dataclasses
import difflib
import logging
import os
from collections.abc import Collection
from typing import Any, NamedTuple

log = logging.getLogger("roll_runtime")

MEM_FRACTION_STATIC = 0.7
"""ROLL documents 0.7 and indexes the key without a default (sglang_strategy.py)."""

MEM_FRACTION_OVERRIDE = "ROLL_RUNTIME_MEM_FRACTION_STATIC"
"""Another fraction, or `sglang` for SGLang's own GPU-dependent default."""

INFER_BATCH_SIZE_IGNORED = (
    "infer_batch_size=%s is ignored: SGLang batches continuously and sizes its batches by free KV "
    "cache. To limit them, set max_running_requests in strategy_config."
)


class Gap(NamedTuple):
    """An argument that only some releases take.

    Attributes:
        since: the first supported release that has it, or empty.
        remedy: what to do where it is missing.
    """

    since: str
    remedy: str


DROPPED_WHEN_FALSE: dict[str, Gap] = {
    "enable_return_routed_experts": Gap("0.5.7", "set router_replay.mode: disable"),
    "return_routed_experts": Gap("0.5.7", "set router_replay.mode: disable"),
    "grpc_mode": Gap("0.5.4.post2", "remove grpc_mode from strategy_config"),
    "video_data": Gap("0.4.10.post2", "send no video"),
}
"""ROLL passes these always; a false value requests nothing and is dropped where the name is missing
(`roll/distributed/strategy/sglang_strategy.py` at 8eb27cc2)."""

DROPPED: dict[str, Gap] = {"tags": Gap("0.4.10.post2", "all memory is resumed with the weights")}
"""Dropped whatever they request, because more than that is done: 0.4.6 releases and resumes all
memory at once, and `occupation.py` handles the resumes that find nothing released."""

KNOWN: dict[str, Gap] = {
    "pp_size": Gap("0.4.6.post4", "leave pipeline parallelism out"),
    "enable_symm_mem": Gap("0.4.10.post2", "leave it out"),
    "enable_weights_cpu_backup": Gap("0.5.4.post2", "leave it out"),
    "enable_deterministic_inference": Gap("0.5.4.post2", "leave it out"),
    "rl_quant_profile": Gap("0.5.6.post2", "leave it out"),
    "custom_sigquit_handler": Gap("0.5.7", "leave it out"),
    "gc_threshold": Gap("0.5.10.post1", "leave it out"),
    # ROLL's weight updates. 0.4.6 takes one tensor a call and knows one process group alone, and
    # ROLL may make several: no translation is safe.
    "names": Gap("0.4.10.post2", "use a ROLL that sends one tensor a call"),
    "dtypes": Gap("0.4.10.post2", "use a ROLL that sends one tensor a call"),
    "shapes": Gap("0.4.10.post2", "use a ROLL that sends one tensor a call"),
    "cuda_graph_max_bs": Gap("", "gone from 0.5.15: use cuda_graph_max_bs_decode"),
    "cuda_graph_bs": Gap("", "gone from 0.5.15: use cuda_graph_bs_decode"),
    "cuda_graph_max_bs_decode": Gap("0.5.15.post1", "use cuda_graph_max_bs"),
    "tensor_parallel_size": Gap("", "SGLang calls it tp_size"),
    "pipeline_parallel_size": Gap("", "SGLang calls it pp_size"),
    "gpu_memory_utilization": Gap("", "vLLM's name; SGLang has mem_fraction_static"),
    "max_model_len": Gap("", "vLLM's name; SGLang has context_length"),
    "max_num_seqs": Gap("", "vLLM's name; SGLang has max_running_requests"),
    "enforce_eager": Gap("", "vLLM's name; SGLang has disable_cuda_graph"),
}
"""Arguments that came, went or are known under another framework's name."""


def field_names(cls: type) -> frozenset[str] | None:
    """Return the names that a class's constructor takes; `None` when they are unknown.

    SGLang's argument records are dataclasses up to 0.5.18 and msgspec structures from 0.5.20.
    """
    struct = getattr(cls, "__struct_fields__", None)
    if isinstance(struct, tuple):
        return frozenset(struct)
    if dataclasses.is_dataclass(cls):
        return frozenset(field.name for field in dataclasses.fields(cls) if field.init)
    return None


def _complaint(name: str, value: Any, known: Collection[str]) -> str:
    gap = DROPPED_WHEN_FALSE.get(name) or KNOWN.get(name)
    if gap is not None:
        since = f"needs SGLang {gap.since} or later; otherwise " if gap.since else ""
        return f"{name}={value!r} ({since}{gap.remedy})"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"{name}={value!r}{hint}"


def adapt(kwargs: dict[str, Any], known: Collection[str] | None, target: str) -> dict[str, Any]:
    """Return the arguments that a release takes.

    Args:
        kwargs: the arguments as the caller gave them; not changed.
        known: the names that the release takes; with `None` nothing is done.
        target: for the message, for example `SGLang 0.5.2's ServerArgs`.

    Raises:
        TypeError: an argument that requests something which this release does not have. All such
            arguments are named, each with what to do.
    """
    if known is None:
        return dict(kwargs)
    kept: dict[str, Any] = {}
    refused: list[str] = []
    for name, value in kwargs.items():
        if name in known:
            kept[name] = value
        elif name == "infer_batch_size":
            log.warning(INFER_BATCH_SIZE_IGNORED, value)
        elif name in DROPPED or (name in DROPPED_WHEN_FALSE and not value):
            log.debug("%s=%r dropped: %s does not have it", name, value, target)
        else:
            refused.append(_complaint(name, value, known))
    if refused:
        raise TypeError(
            f"{target} has no {'; no '.join(refused)}. Leave it out (strategy_config), or use an "
            "image with an SGLang that has it."
        )
    return kept


def default_mem_fraction(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with ROLL's `mem_fraction_static` where the caller gave none.

    Raises:
        ValueError: `ROLL_RUNTIME_MEM_FRACTION_STATIC` is neither a fraction nor `sglang`.
    """
    if kwargs.get("mem_fraction_static") is not None or "server_args" in kwargs:
        return kwargs
    override = os.environ.get(MEM_FRACTION_OVERRIDE, "")
    if override == "sglang":
        return kwargs
    try:
        fraction = float(override) if override else MEM_FRACTION_STATIC
    except ValueError:
        fraction = -1.0
    if not 0 < fraction < 1:
        raise ValueError(
            f"{MEM_FRACTION_OVERRIDE}={override} is no fraction: set a number between 0 and 1, or "
            "`sglang` for SGLang's own default."
        )
    log.info("mem_fraction_static=%s (not set; %s overrides)", fraction, MEM_FRACTION_OVERRIDE)
    return {**kwargs, "mem_fraction_static": fraction}


def engine_args(**kwargs: Any) -> dict[str, Any]:
    """Return arguments for `sglang.Engine` that the installed SGLang takes.

    The same is done by `Engine` itself once roll_runtime is applied; this is for code that wants
    to see the outcome. Imports SGLang's `server_args`.

    Raises:
        TypeError: an argument that this release does not have (see `adapt`).
    """
    import importlib

    from roll_runtime.dispatch import sglang_version

    server_args = importlib.import_module("sglang.srt.server_args").ServerArgs
    target = f"SGLang {sglang_version()}'s ServerArgs"
    return default_mem_fraction(adapt(kwargs, field_names(server_args), target))
