"""Stand-ins for absent packages: a generator of kernels gets from them what it would from torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from images.content.kernels import kernel_inputs

WORKERS = str(kernel_inputs.OF_FLASHINFER.parent)

START = f"""
import json, sys
sys.path.insert(0, {WORKERS!r})
import stand_ins
stand_ins.install(
    {{"torch": "2.8.0", "cxx11_abi": True, "cuda_home": "/c", "site_packages": sys.argv[1]}},
    unused=sys.argv[2], used=tuple(filter(None, sys.argv[3].split(","))),
)
found = None
"""

GENERATOR = """
import functools
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.cpp_extension import CUDA_HOME, include_paths
from triton import language as tl
import triton

TYPES = {torch.float16: "half", torch.bfloat16: "nv_bfloat16", torch.int32: "int32_t"}

class Module(nn.Module):
    size = 4

class Function(torch.autograd.Function, dict):
    pass

@torch.library.custom_op("a::b", mutates_args=())
def operator(x: Tensor | None, y: "np.ndarray | int" = 0) -> list[Tensor]:
    return x

@operator.register_fake
def _(x):
    return None

@triton.jit
def kernel(x: tl.constexpr):
    return x

@torch.compiler.disable
def plain(x: torch.Tensor | None = None) -> Tensor[int]:
    return 7

@functools.cache
def generate(dtype):
    if not isinstance(dtype, torch.dtype):
        raise TypeError(dtype)
    return TYPES[dtype]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Installed packages: a generator, and one of which a part is used."""
    packages = {
        "tiny/__init__.py": "",
        "tiny/generator.py": GENERATOR,
        "tiny/broken.py": "import packaging_of_nobody",
        "large/__init__.py": "raise RuntimeError('it would load everything')",
        "large/jit/__init__.py": "NAME = __name__",
        "large/jit/deep.py": "from large.srt.utils import helper\nfrom large import version",
        "large/srt/__init__.py": "raise RuntimeError('it would load everything')",
    }
    for name, content in packages.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "site"


def run(code: str, site: Path, unused: str = "", used: str = "") -> Any:
    command = [sys.executable, "-s", "-B", "-c", f"{START}{code}\nprint(json.dumps(found))"]
    command += [str(site), unused, used]
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def failure(code: str, site: Path) -> str:
    command = [sys.executable, "-s", "-B", "-c", f"{START}{code}", str(site), "", ""]
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


def test_decorated_functions_are_the_functions_themselves(site: Path) -> None:
    """Whether a decorator has arguments or not."""
    code = """
from tiny import generator
found = [generator.operator(3), generator.kernel(4), generator.plain()]
"""
    assert run(code, site) == [3, 4, 7]


def test_types_are_keys_and_of_their_class(site: Path) -> None:
    code = """
import torch
from tiny import generator
found = [generator.generate(torch.bfloat16), generator.generate(torch.int32)]
found += [torch.bfloat16 is torch.bfloat16, torch.bfloat16 == torch.float16]
found += [torch.bfloat16.itemsize, torch.int64.itemsize, isinstance("bf16", torch.dtype)]
"""
    assert run(code, site) == ["nv_bfloat16", "int32_t", True, False, 2, 8, False]


def test_unknown_type_fails_where_it_is_looked_up(site: Path) -> None:
    code = "import torch\nfrom tiny import generator\ngenerator.generate(torch.float8_e4m3fn)"
    assert failure(code, site).startswith("KeyError")


def test_classes_with_absent_bases_are_classes(site: Path) -> None:
    code = """
from tiny.generator import Function, Module
found = [Module.__mro__[1] is object, Module().size, len(Function(a=1))]
"""
    assert run(code, site) == [True, 4, 1]


def test_facts_of_torch_are_those_that_are_wanted(site: Path) -> None:
    code = """
import torch
from torch.utils import cpp_extension
from torch.torch_version import TorchVersion
found = [torch.__version__, TorchVersion(torch.__version__) >= TorchVersion("2.7"),
         torch.version.hip, torch.version.musa, torch.finfo(torch.float32).max,
         torch._C._GLIBCXX_USE_CXX11_ABI, torch.cuda.device_count(),
         list(torch.cuda.get_device_capability(0)), cpp_extension.CUDA_HOME,
         cpp_extension._TORCH_PATH, cpp_extension._get_cuda_arch_flags()]
"""
    path = str(site / "torch")
    largest = (2 - 2**-23) * 2.0**127
    facts = ["2.8.0", True, None, None, largest, True, 0, [0, 0], "/c", path, []]
    assert run(code, site) == facts


@pytest.mark.parametrize("module", ["tiny.broken", "tiny.nothing", "vllm", "cutlass"])
def test_missing_module_that_is_not_in_the_list_is_an_error(site: Path, module: str) -> None:
    assert failure(f"import {module}", site).startswith("ModuleNotFoundError: No module named")


def test_only_the_used_part_of_a_package_is_imported(site: Path) -> None:
    code = """
import large.jit.deep, large.jit
found = [large.jit.NAME, type(large.jit.deep.helper).__name__, type(large.srt).__name__]
"""
    assert run(code, site, "large", "large.jit") == ["large.jit", "_Absent", "_Absent"]


def test_package_whose_name_begins_alike_is_another_one(site: Path) -> None:
    (site / "larger.py").write_text("NAME = 'own'")
    assert run("import larger\nfound = larger.NAME", site, "large", "large.jit") == "own"
    (site / "large" / "jitter.py").write_text("raise RuntimeError")
    code = "import large.jitter\nfound = type(large.jitter).__name__"
    assert run(code, site, "large", "large.jit") == "_Absent"
