"""The recorder in a process that loads SGLang's modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.gpu import kernel_recorder

# SGLang 0.5.6's module has no `torch` of its own.
MODULE = "def load_jit(*args, **options): return args\n"
# Another module's, as roll_runtime's: it is out of torch.compile's graphs already.
DISABLED = MODULE + "import torch\nload_jit = torch.compiler.disable(load_jit)\n"
# As torch 2.9's, which takes the function that it was given before, wherever that is noted.
TORCH_2_9 = """
import functools
class compiler:
    @staticmethod
    def disable(function):
        inner = getattr(function, "_torchdynamo_orig_callable", function)
        @functools.wraps(inner)
        def disabled(*args, **options):
            return inner(*args, **options)
        disabled._torchdynamo_orig_callable = inner
        return disabled
"""
TORCH_2_13 = TORCH_2_9.replace(
    'getattr(function, "_torchdynamo_orig_callable", function)', "function"
)
ASK = """
import {module} as utils
assert utils.load_jit("hicache", 4, cuda_files=["a.cuh"]) == ("hicache", 4)
"""


# As roll_runtime, which answers from the image and knows a function of its own by a mark.
PATCH = """
import functools, torch
def patched(load):
    if hasattr(load, "__mark__"):
        return load
    @functools.wraps(load)
    def load_jit(*args, **options):
        return args
    load_jit.__mark__ = True
    return torch.compiler.disable(load_jit)
"""
LOADER = MODULE + "import patch\nload_jit = patch.patched(load_jit)\n"
PACKAGE = "import patch\nfrom .loader import load_jit\nload_jit = patch.patched(load_jit)\n"


@pytest.mark.parametrize("module", [MODULE, DISABLED])
def test_what_sglangs_compiler_is_asked_for_is_noted(tmp_path: Path, module: str) -> None:
    files = {"sglang/jit_kernel/utils.py": module, "torch.py": TORCH_2_9}
    noted(tmp_path, "sglang.jit_kernel.utils", files)


def test_what_the_image_answers_is_noted(tmp_path: Path) -> None:
    """SGLang 0.5.18's two modules have one function, which roll_runtime patches in both."""
    folder = "sglang/kernels/jit/utils/compile"
    files = {f"{folder}/loader.py": LOADER, f"{folder}/__init__.py": PACKAGE}
    files |= {"patch.py": PATCH, "torch.py": TORCH_2_13}
    noted(tmp_path, "sglang.kernels.jit.utils.compile", files)


def noted(site: Path, module: str, files: Mapping[str, str]) -> None:
    """Ask `load_jit` of a module for a kernel, once: a line of the recording must have it."""
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    (site / "sitecustomize.py").write_bytes(Path(kernel_recorder.__file__).read_bytes())
    lines = site / "lines"
    env = {**os.environ, "PYTHONPATH": str(site), kernel_recorder.VARIABLE: str(lines)}
    command = [sys.executable, "-c", ASK.format(module=module)]
    subprocess.run(command, env=env, check=True, timeout=60)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [
        {"sglang": {"name": ["hicache", "4"], "options": {"cuda_files": ["a.cuh"]}}}
    ]
