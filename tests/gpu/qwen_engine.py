"""An engine with the shapes of Qwen2.5-7B, two layers and weights of no meaning; runs in the image.

As a script, whose argument is an empty directory for the model: starts it with SGLang's own
backends, generates in batches of several sizes, and prints the seconds and what was compiled.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

MODEL: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "torch_dtype": "bfloat16",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 2,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}
"""https://huggingface.co/Qwen/Qwen2.5-7B-Instruct, config.json, but for the number of layers."""

BATCHES = (1, 3, 8, 16)
"""Requests at once."""

_ROLLS = {"temperature": 0.99, "top_p": 0.99, "top_k": 100}
SAMPLINGS: tuple[dict[str, Any], ...] = (
    _ROLLS,
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.0},
    {"temperature": 0},
)
"""ROLL's own; the top-p alone; neither; greedy."""


def arguments(model: Path) -> dict[str, Any]:
    """Return the engine's arguments: as ROLL's worker gives them, with a small pool."""
    return {
        "model_path": str(model),
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "dtype": "bfloat16",
        "random_seed": 42,
        "mem_fraction_static": 0.5,
        "max_total_tokens": 16384,
        "max_running_requests": max(BATCHES),
        "disable_custom_all_reduce": True,
        "trust_remote_code": True,
        "enable_memory_saver": importlib.util.find_spec("torch_memory_saver") is not None,
        "log_level": "info",
    }


async def ask(engine: Any, prompt: list[int], sampling: dict[str, Any]) -> list[int]:
    """Return the tokens of one request."""
    options = {"max_new_tokens": 8, "ignore_eos": True, **sampling}
    answer = await engine.async_generate(input_ids=prompt, sampling_params=options)
    return list(answer["output_ids"])


async def work(model: Path) -> dict[str, Any]:
    """Start the engine, generate and shut it down."""
    compiled = importlib.import_module("roll_runtime.compiled")
    kept = compiled.snapshot()
    begin = time.monotonic()
    engine_class: Any = importlib.import_module("sglang.srt.entrypoints.engine").Engine
    imported = time.monotonic()
    engine = engine_class(**arguments(model))
    started = time.monotonic()
    await ask(engine, [3, 7, 11], {"temperature": 0, "max_new_tokens": 1})
    answered = time.monotonic()
    lengths = []
    for size in BATCHES:
        requests = [
            ask(engine, [size, *range(100, 104 + 7 * index)], SAMPLINGS[index % len(SAMPLINGS)])
            for index in range(size)
        ]
        lengths += [len(tokens) for tokens in await asyncio.gather(*requests)]
    engine.shutdown()
    return {
        "import_s": round(imported - begin, 2),
        "start_s": round(started - imported, 2),
        "first_token_s": round(answered - started, 3),
        "lengths": lengths,
        "compiled": compiled.since(kept, compiled.snapshot()),
    }


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    (directory / "config.json").write_text(json.dumps(MODEL))
    print(json.dumps(asyncio.run(work(directory))))
