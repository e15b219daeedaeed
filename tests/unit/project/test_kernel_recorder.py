"""The recorder in a process that loads SGLang's modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import kernel_recorder

# SGLang 0.5.6's module has no `torch` of its own.
MODULE = "def load_jit(*args, **options): return args\n"
# Another module's, as roll_runtime's: it is out of torch.compile's graphs already.
DISABLED = MODULE + "import torch\nload_jit = torch.compiler.disable(load_jit)\n"
# As torch 2.9's, which takes the function that it was given before, wherever that is noted.
TORCH = """
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
ASK = """
from sglang.jit_kernel import utils
assert utils.load_jit("hicache", 4, cuda_files=["a.cuh"]) == ("hicache", 4)
"""


@pytest.mark.parametrize("module", [MODULE, DISABLED])
def test_what_sglangs_compiler_is_asked_for_is_noted(tmp_path: Path, module: str) -> None:
    package = tmp_path / "sglang/jit_kernel"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "utils.py").write_text(module)
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "sitecustomize.py").write_bytes(Path(kernel_recorder.__file__).read_bytes())
    lines = tmp_path / "lines"
    env = {**os.environ, "PYTHONPATH": str(tmp_path), kernel_recorder.VARIABLE: str(lines)}
    subprocess.run([sys.executable, "-c", ASK], env=env, check=True, timeout=60)
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [
        {"sglang": {"name": ["hicache", "4"], "options": {"cuda_files": ["a.cuh"]}}}
    ]
