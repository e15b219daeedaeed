"""A stand-in for vLLM: what lets SGLang's own models be imported where torch sees no GPU.

Where there is no GPU, and SGLang's kernels for CPUs are not there either, it replaces some layers
by vLLM's of the same name, and 0.4.6 imports a kernel of vLLM's; no image has vLLM. The
stand-in gives back SGLang's own classes, which compute with torch on such a machine. A test's
fixture: never part of an image.
"""

from __future__ import annotations

from tests.image.box import Box

DIRECTORY = "/tmp/stand-in-vllm"
ENV = {"PYTHONPATH": DIRECTORY}

# The importing module has defined the class before it asks vLLM for another.
_LAYER = """
import sys

def __getattr__(name):
    return getattr(sys.modules["sglang.srt.layers.{module}"], name)
"""

# Kept by SGLang's rotary embedding, which computes with torch all the same.
_KERNELS = """
def rotary_embedding(*arguments, **options):
    raise NotImplementedError("vLLM's kernels are not here")

scaled_fp8_quant = rotary_embedding
"""

_FILES = {
    "__init__.py": "",
    "_custom_ops.py": _KERNELS,
    "model_executor/__init__.py": "",
    "model_executor/layers/__init__.py": "",
    "model_executor/layers/activation.py": _LAYER.format(module="activation"),
    "model_executor/layers/layernorm.py": _LAYER.format(module="layernorm"),
}


def install(box: Box) -> None:
    """Put the stand-in into the box."""
    for name, content in _FILES.items():
        box.write(f"{DIRECTORY}/vllm/{name}", content)
