"""An embedding model still answers where roll_runtime changes batches of prompts.

Its batches are such that nothing is generated after the prompt, and stay as SGLang makes them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu import embedding_engine, engines
from tests.image.box import Box
from tests.image.subject import Subject

_CHANGED = """
import sys
from roll_runtime import shared_prompts, versions
print("true" if versions.in_range(sys.argv[1], *shared_prompts.RANGE) else "false")
"""


def test_prompts_are_embedded(gpu: Box, subject: Subject) -> None:
    engines.need_engine(subject)
    release = subject.target.sglang
    if not gpu.ask(_CHANGED, release):
        pytest.skip(f"roll_runtime leaves the batches of SGLang {release} alone")
    gpu.run("mkdir -p /tmp/embedding")
    script = Path(embedding_engine.__file__).read_text()
    found = gpu.ask(script, "/tmp/embedding", env=engines.ALONE)
    assert found["dimensions"] == [512]  # the model's hidden size
    assert found["norms"] == [1.0] * 2 * embedding_engine.PROMPTS
