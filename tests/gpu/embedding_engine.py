"""An engine that embeds instead of generating; runs in the image.

As a script, whose argument is an empty directory for the model: embeds several prompts at once,
and prints the number of dimensions and the Euclidean norm of the embeddings.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

PROMPTS = 8

TIMEOUT = 120.0  # seconds


async def embed(engine: Any, prompt: list[int]) -> list[float]:
    """Return the embedding of a prompt."""
    records: Any = importlib.import_module("sglang.srt.managers.io_struct")
    request = records.EmbeddingReqInput(input_ids=prompt)
    async for answer in engine.tokenizer_manager.generate_request(request, None):
        found: list[float] = answer["embedding"]
        return found
    raise RuntimeError("no answer came")


async def work(model: Path) -> dict[str, Any]:
    """Start the engine, embed twice and shut it down."""
    smoke_model: Any = importlib.import_module("roll_runtime.smoke_model")
    smoke_model.write(model)
    engine_class: Any = importlib.import_module("sglang.srt.entrypoints.engine").Engine
    engine = engine_class(
        model_path=str(model),
        is_embedding=True,
        skip_tokenizer_init=True,
        dtype="bfloat16",
        mem_fraction_static=0.3,
        max_total_tokens=4096,
        attention_backend="triton",
        disable_cuda_graph=True,
    )
    dimensions, norms = set(), []
    for first in (11, 411):
        prompts = [[first + index, 7, 5, 3] for index in range(PROMPTS)]
        asked = asyncio.gather(*(embed(engine, prompt) for prompt in prompts))
        for found in await asyncio.wait_for(asked, TIMEOUT):
            dimensions.add(len(found))
            norms.append(round(math.hypot(*found), 1))
    engine.shutdown()
    return {"dimensions": sorted(dimensions), "norms": norms}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(work(Path(sys.argv[1])))))
