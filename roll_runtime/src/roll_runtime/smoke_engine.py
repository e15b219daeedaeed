"""The smoke test's engine, in a process of its own: start, look, generate, shut down.

`roll_runtime.smoke` is the command that starts this process and waits for it.
"""

import asyncio
import importlib
import importlib.util
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roll_runtime import children, dispatch, smoke_model, smoke_release
from roll_runtime.versions import in_range

MARK = "roll_runtime smoke result: "
"""The prefix of the line that carries the result."""

FP8_RECIPE = {
    "quantization_config": {"activation_scheme": "dynamic", "weight_block_size": [128, 128]}
}

NEW_TOKENS = len(smoke_model.TOKENS)
"""New tokens per request."""

_FIRST, _PROMPT, _SAMPLED = [3, 7, 11], [*smoke_model.PROMPT], [2, 4, 6, 8]
"""Prompts that begin differently, so that none finds another's beginning in the cache: a prompt
computed in two pieces may round differently, and tokens are compared below."""

_GREEDY = {"max_new_tokens": NEW_TOKENS, "ignore_eos": True, "temperature": 0}

_ROLLOUT = {**_GREEDY, "temperature": 0.99, "top_p": 0.99, "top_k": 100}
"""ROLL's own defaults for rollouts (`generating_args`)."""


@dataclass(frozen=True)
class Variant:
    """How the engine is started and what is done with it.

    Attributes:
        tp_size: GPUs of the engine.
        fp8: quantise bf16 weights to block FP8 on load.
        main_thread: start it on the main thread instead of a Ray actor's.
        default_backends: SGLang's own attention and sampling backends, with CUDA graphs, instead of
            those that compile nothing with nvcc.
        release_memory: release the engine's memory, resume and update the weights, as ROLL does
            between rollouts.
    """

    tp_size: int = 1
    fp8: bool = False
    main_thread: bool = False
    default_backends: bool = False
    release_memory: bool = False


def engine_arguments(
    model: Path, variant: Variant, memory_saver: bool, version: str
) -> dict[str, Any]:
    """Return arguments that a supported release takes.

    Args:
        model: the model's directory.
        variant: how to start it.
        memory_saver: whether torch_memory_saver is installed, as ROLL needs it.
        version: SGLang's version.
    """
    # Without a limit the pool would get tens of millions of tokens: two layers need 2 KiB each.
    tokens = smoke_release.POOL_TOKENS if variant.release_memory else 4096
    arguments: dict[str, Any] = {
        "model_path": str(model),
        "load_format": "auto",
        "skip_tokenizer_init": True,
        "dtype": "bfloat16",
        "random_seed": 42,
        "tp_size": variant.tp_size,
        "mem_fraction_static": 0.3,
        "max_total_tokens": tokens,
        "max_running_requests": 8,
        "disable_custom_all_reduce": True,
        "trust_remote_code": True,
        "enable_memory_saver": memory_saver,
        "log_level": "info",
        # What ROLL passes as well, on every release (args.py drops it where it is missing).
        "enable_return_routed_experts": False,
    }
    if not variant.default_backends:
        arguments["attention_backend"] = "triton"
        arguments["sampling_backend"] = "pytorch"
        arguments["disable_cuda_graph"] = True
    if variant.fp8:
        arguments["quantization"] = "fp8"
        arguments["json_model_override_args"] = json.dumps(FP8_RECIPE)
        if in_range(version, "0.5.10", "0.5.12"):
            # Graphs of prefills, since then on by default: DeepGEMM compiles a kernel for each of
            # some fifty sizes of each linear layer, which takes minutes. Later releases have no
            # block FP8 on load, and from 0.5.15 on not this argument.
            arguments["disable_piecewise_cuda_graph"] = True
    return arguments


def _sigquit() -> str:
    """Return the name of SIGQUIT's handler, with its module."""
    handler = signal.getsignal(signal.SIGQUIT)
    if isinstance(handler, signal.Handlers):
        return handler.name
    name = getattr(handler, "__qualname__", type(handler).__qualname__)
    return f"{getattr(handler, '__module__', None) or 'builtins'}.{name}"


def check_handler(version: str, main_thread: bool, seen: dict[str, str]) -> list[str]:
    """Return what is wrong with SIGQUIT's handler, a sentence each.

    Args:
        version: SGLang's version.
        main_thread: where the engine was started.
        seen: the handler's name `before` the start, `started`, and when it had `generated`.
    """
    if not main_thread:
        changed = sorted({name for name in seen.values() if name != seen["before"]})
        names = ", ".join(changed)
        return [f"SIGQUIT's handler was changed off the main thread: {names}"] if changed else []
    # A failing child of the engine sends SIGQUIT, and SGLang's handler ends the others.
    if in_range(version, None, "0.5.10") and seen["started"] == seen["before"]:
        return ["SGLang's handler of SIGQUIT was not installed on the main thread"]
    return []


async def _generate(engine: Any, prompt: list[int], sampling: dict[str, Any]) -> list[int]:
    answer = await engine.async_generate(input_ids=prompt, sampling_params=dict(sampling))
    return list(answer["output_ids"])


async def _work(model: Path, variant: Variant, result: dict[str, Any], started: float) -> None:
    engine_class: Any = importlib.import_module("sglang.srt.entrypoints.engine").Engine
    version = result["sglang"] = dispatch.sglang_version()
    result["import_s"] = round(time.monotonic() - started, 2)
    saver = importlib.util.find_spec("torch_memory_saver") is not None
    arguments = engine_arguments(model, variant, saver, version)
    handlers = result["sigquit"] = {"before": _sigquit()}
    before = time.monotonic()
    engine = engine_class(**arguments)
    result["start_s"] = round(time.monotonic() - before, 2)
    handlers["started"] = _sigquit()
    try:
        result["children"] = children.environments()
        result["faults"] += children.check(version, result["children"])
        await _ask(engine, variant, result)
        handlers["generated"] = _sigquit()
        result["faults"] += check_handler(version, variant.main_thread, handlers)
        if variant.release_memory:
            await smoke_release.cycle(
                engine,
                arguments,
                result,
                lambda: _generate(engine, _PROMPT, _GREEDY),
            )
    finally:
        before = time.monotonic()
        engine.shutdown()
        result["shutdown_s"] = round(time.monotonic() - before, 2)


async def _ask(engine: Any, variant: Variant, result: dict[str, Any]) -> None:
    before = time.monotonic()
    await _generate(engine, _FIRST, {**_GREEDY, "max_new_tokens": 1})
    result["first_token_s"] = round(time.monotonic() - before, 3)
    result["output_ids"] = await _generate(engine, _PROMPT, _GREEDY)
    if result["output_ids"] != [*smoke_model.TOKENS] and not variant.fp8:
        result["faults"].append(f"{result['output_ids']} came, not {[*smoke_model.TOKENS]}")
    lengths = [len(result["output_ids"])]
    if variant.default_backends:
        # Sampling with top-p and top-k is a kernel of its own.
        result["sampled_ids"] = await _generate(engine, _SAMPLED, _ROLLOUT)
        lengths.append(len(result["sampled_ids"]))
    result["faults"] += [
        f"{length} tokens came, not {NEW_TOKENS}" for length in lengths if length != NEW_TOKENS
    ]


def _on_thread(main_thread: bool, work: Callable[[], None]) -> None:
    if main_thread:
        work()
        return
    # The thread outlives the engine, whose children die with the thread that made them.
    thread = threading.Thread(target=work, name="actor")
    thread.start()
    thread.join()


def run(variant: Variant, folder: str) -> int:
    """Do the work in this process, print the result line and end the process.

    Args:
        variant: how the engine is started and what is done with it.
        folder: an empty directory for the model.
    """
    import roll_runtime

    result: dict[str, Any] = {"faults": []}
    started = time.monotonic()
    model = Path(folder)
    smoke_model.write(model)

    def actor() -> None:
        # As a Ray async actor does it: a coroutine, off the main thread by default.
        try:
            asyncio.run(_work(model, variant, result, started))
        except BaseException as error:
            result["faults"].append(f"{type(error).__name__}: {error}")

    roll_runtime.apply()
    _on_thread(variant.main_thread, actor)
    result["roll_runtime"] = roll_runtime.__version__
    print(MARK + json.dumps(result), flush=True)
    # SGLang's exit handlers have nothing left to do, and some wait for threads.
    os._exit(1 if result["faults"] else 0)
