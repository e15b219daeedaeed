"""The tiny model of the smoke test: a config, weights, and what it must generate."""

import json
import random
import struct
from pathlib import Path
from typing import Any

MODEL: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "torch_dtype": "bfloat16",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "vocab_size": 1024,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}
"""Sizes that every supported release can run: head_dim 128 (0.5.5 and earlier import vLLM for
others), and every partition a multiple of 128 at up to two GPUs, for block FP8. More positions than
a prefill takes in one piece (`chunked_prefill_size`, 16384 on the largest GPUs): 0.5.12 captures
graphs of prefills up to it, and FlashAttention 3 refuses more tokens than positions."""

PROMPT = (1009, 632, 610, 595)
"""A prompt, and the tokens that follow it greedily: transformers computes these on a CPU, in
float32 and in bf16. The runner-up of each is 0.07 behind or more, well above bf16's rounding."""

TOKENS = (595, 595, 936, 936, 936, 685, 685, 685)

TOKEN_BYTES: int = (
    2 * 2 * MODEL["num_hidden_layers"] * MODEL["num_key_value_heads"] * MODEL["head_dim"]
)
"""Bytes of the KV cache a token takes: keys and values, in bf16, of all layers."""


def write(folder: Path) -> None:
    """Write the model into a directory; its bf16 weights are random, and always the same."""
    (folder / "config.json").write_text(json.dumps(MODEL))
    _write_weights(folder / "model.safetensors")


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight, by its name in a checkpoint."""
    hidden, inner = MODEL["hidden_size"], MODEL["intermediate_size"]
    kv = MODEL["num_key_value_heads"] * MODEL["head_dim"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (MODEL["vocab_size"], hidden)}
    found["model.norm.weight"] = (hidden,)
    for index in range(MODEL["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        for name, rows in (("q", hidden), ("k", kv), ("v", kv)):
            found[f"{layer}.self_attn.{name}_proj.weight"] = (rows, hidden)
            found[f"{layer}.self_attn.{name}_proj.bias"] = (rows,)
        found[f"{layer}.self_attn.o_proj.weight"] = (hidden, hidden)
        found[f"{layer}.mlp.gate_proj.weight"] = (inner, hidden)
        found[f"{layer}.mlp.up_proj.weight"] = (inner, hidden)
        found[f"{layer}.mlp.down_proj.weight"] = (hidden, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{layer}.{name}.weight"] = (hidden,)
    return found


def _bf16(value: float) -> bytes:
    """Return a number as bf16, rounded towards zero: float32's upper half."""
    return struct.pack("<f", value)[2:]


_VALUES = [_bf16(0.0346 * (index - 127.5) / 127.5) for index in range(256)]
"""256 values, evenly spread, with a standard deviation of 0.02."""


def _write_weights(file: Path) -> None:
    """Write a safetensors file: a length, a header in JSON, and the bytes.

    Format: https://github.com/huggingface/safetensors (README, "Format"). By hand, because torch
    takes seconds to import and is not needed for it.
    """
    generator = random.Random(0)  # noqa: S311  # weights, not secrets
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    pieces, offset = [], 0
    for name, shape in shapes().items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        if name.endswith("norm.weight"):
            piece = _bf16(1.0) * count
        else:
            piece = b"".join([_VALUES[byte] for byte in generator.randbytes(count)])
        header[name] = {
            "dtype": "BF16",
            "shape": list(shape),
            "data_offsets": [offset, offset + len(piece)],
        }
        offset += len(piece)
        pieces.append(piece)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(pieces))
