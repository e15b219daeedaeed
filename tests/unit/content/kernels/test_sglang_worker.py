"""SGLang's worker, run on a small SGLang: its kernels have the keys that roll_runtime looks for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from images.content import runtime_wheel
from images.content.kernels import kernel_inputs, sglang_worker

UTILS = """
import contextlib, pathlib, torch

_arch = None

class Arch:
    def __init__(self, major, minor):
        self.target_name = f"sm_{major}{minor}"

@contextlib.contextmanager
def override_jit_cuda_arch(major, minor):
    global _arch
    _arch = Arch(major, minor)
    yield

def get_jit_cuda_arch():
    return _arch

def load_jit(*args, cuda_files=None, cuda_wrappers=None, **kwargs):
    import tvm_ffi.cpp
    return tvm_ffi.cpp.load(name="_".join(map(str, args)), cuda_files=cuda_files)
"""
TVM = """
import os, pathlib
def load(**kwargs): raise RuntimeError("a kernel is loaded")
load_inline = load
def build(name, cuda_files):
    path = pathlib.Path(os.environ["TVM_FFI_CACHE_DIR"], name, "a.so")
    path.parent.mkdir(parents=True)
    path.write_text(f"library {name}")
    return str(path)
build_inline = build
"""
KERNEL = """
from sglang.jit_kernel.utils import load_jit
from sglang.srt.layers import anything
def {function}(*arguments):
    numbers = [one for one in arguments if isinstance(one, int)]
    return load_jit("{name}", *numbers, cuda_files=["a.cuh"])
"""
ENVIRON = """
import os
class Directory:
    def get(self): return os.environ.get("SGLANG_JIT_CACHE_DIR")
class envs:
    SGLANG_JIT_CACHE_DIR = Directory()
"""
COMPILE_17 = """
import torch
from sglang.kernels.jit.utils.arch import get_jit_cuda_arch
def load_jit(*args, cuda_files=None, cuda_wrappers=None, external_cuda_files=None, **kwargs):
    import tvm_ffi.cpp
    assert all(isinstance(wrapper, tuple) for wrapper in cuda_wrappers)
    assert not torch.cuda.is_available()
    return tvm_ffi.cpp.load(name="_".join(map(str, args)), cuda_files=cuda_files)
"""
LOADER_18 = """
import pathlib, shutil
from sglang.kernels.jit.utils.arch import get_jit_cuda_arch
from sglang.srt.environ import envs
def _load(library): raise RuntimeError("a kernel is loaded")
def load_jit(*args, cuda_files=None, cuda_wrappers=None, **kwargs):
    staging = pathlib.Path(envs.SGLANG_JIT_CACHE_DIR.get(), "staging")
    staging.mkdir(parents=True)
    library = staging / "a.so"
    library.write_text("library")
    try:
        return _load(library)
    finally:
        shutil.rmtree(staging)
"""
REQUEST: dict[str, object] = {
    "name": ["norm", "128"],
    "options": {"cuda_files": ["a.cuh"], "cuda_wrappers": [["run", "Kernel<128>"]]},
}
FUNCTIONS = {
    "activation": "_jit_activation_module",
    "clamp_position": "_jit_clamp_position_module",
    "kvcache": "_jit_kvcache_module",
    "norm": "_jit_qknorm_module",
    "resolve_future_token_ids": "_jit_resolve_future_token_ids_module",
    "rope": "_jit_fused_rope_module",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    files = {
        "sglang/__init__.py": "raise RuntimeError('it would load everything')",
        "sglang/jit_kernel/__init__.py": "",
        "sglang/jit_kernel/utils.py": UTILS,
        "sglang/jit_kernel/csrc/a.cuh": "source",
        "sglang/jit_kernel/include/b.cuh": "header",
        "tvm_ffi/__init__.py": "",
        "tvm_ffi/cpp.py": TVM,
    }
    for name, function in FUNCTIONS.items():
        files[f"sglang/jit_kernel/{name}.py"] = KERNEL.format(function=function, name=name)
    for name in kernel_inputs.NAMING:
        source = runtime_wheel.SOURCE / "src" / "roll_runtime" / name
        files[f"roll_runtime/{name}"] = source.read_text()
    for name, content in files.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "site"


def as_later_releases(site: Path, **modules: str) -> None:
    """Replace SGLang's package of kernels by that of later releases."""
    shutil.rmtree(site / "sglang" / "jit_kernel")
    files = {name.replace("__", "/"): content for name, content in modules.items()}
    files |= {
        "__init__": "",
        "jit/__init__": "",
        "jit/utils/__init__": "",
        "jit/utils/arch": UTILS,
    }
    for name, content in files.items():
        path = site / "sglang" / "kernels" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name in ("csrc/a.cuh", "include/b.cuh"):
        path = site / "sglang" / "kernels" / "jit" / name
        path.parent.mkdir()
        path.write_text("source")
    (site / "sglang" / "srt").mkdir()
    (site / "sglang" / "srt" / "environ.py").write_text(ENVIRON)


def run(
    site: Path,
    architecture: str,
    names: Sequence[str],
    requests: Sequence[dict[str, object]] = (),
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run the worker; return how it ended, and the directory of its libraries."""
    directory, programs, prefix = (site.parent / name for name in ("build", "bin", "prefix"))
    for path in (directory, programs):
        path.mkdir(exist_ok=True)
    (programs / "strip").write_text('#!/bin/sh\necho stripped >> "$2"\n')
    (programs / "strip").chmod(0o755)
    (directory / "stand_ins.py").write_bytes(
        kernel_inputs.OF_SGLANG.with_name("stand_ins.py").read_bytes()
    )
    wanted = {
        "torch": "2.11.0",
        "cxx11_abi": True,
        "cuda_home": "/usr/local/cuda",
        "prefix": str(prefix),
        "sglang": requests,
        "site_packages": str(site),
    }
    (directory / "kernels.json").write_text(json.dumps(wanted))
    worker = str(kernel_inputs.OF_SGLANG)
    command = [sys.executable, "-s", "-B", worker, str(directory), architecture, *names]
    env = {"PYTHONPATH": str(site), "PATH": f"{programs}:/usr/bin:/bin"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done, Path(f"{directory}/kernels{prefix}")


def compiled(site: Path, architecture: str, *names: str) -> list[Path]:
    """Run the worker; return the libraries by their paths below the prefix."""
    done, kept = run(site, architecture, names or ("dense",))
    assert done.returncode == 0, done.stderr
    assert all(path.read_text().count("stripped") == 1 for path in kept.rglob("*.so"))
    return [path.relative_to(kept) for path in kept.rglob("*.so")]


def test_kernels_are_kept_by_the_names_that_roll_runtime_looks_for(site: Path) -> None:
    found = compiled(site, "9.0")
    assert {path.parts[:2] for path in found} == {("kernels", "tvm-ffi")}
    names = {path.stem.removeprefix("sgl_kernel_jit_") for path in found}
    assert names >= {"activation", "kvcache_512", "kvcache_1024", "kvcache_2048"}
    assert all(path.parent.name.startswith(f"{path.stem}_") for path in found)
    assert len(found) == len(FUNCTIONS) + 1, "of the caches of keys and values there are three"


def test_kernels_are_those_that_are_named(site: Path) -> None:
    assert set(sglang_worker.KERNELS) == {"dense", "future-tokens"}
    found = compiled(site, "9.0", "future-tokens")
    assert [path.stem for path in found] == ["sgl_kernel_jit_resolve_future_token_ids"]


@pytest.mark.parametrize("module", ["resolve_future_token_ids", "clamp_position"])
def test_kernel_that_a_release_does_not_have_is_an_error(site: Path, module: str) -> None:
    (site / "sglang" / "jit_kernel" / f"{module}.py").unlink()
    done, _ = run(site, "9.0", list(sglang_worker.KERNELS))
    assert done.returncode != 0
    assert f"cannot import name '{module}'" in done.stderr.splitlines()[-1]


def test_release_without_the_package_is_an_error(site: Path) -> None:
    (site / "sglang" / "jit_kernel").rename(site / "sglang" / "others")
    done, _ = run(site, "9.0", ["dense"])
    assert done.returncode != 0
    assert "SGLang has none of sglang.jit_kernel.utils, " in done.stderr.splitlines()[-1]


def test_module_that_a_loader_needs_and_that_is_missing_is_an_error(site: Path) -> None:
    with (site / "sglang" / "jit_kernel" / "utils.py").open("a") as utils:
        utils.write("import missing\n")
    done, _ = run(site, "9.0", ["dense"])
    assert done.returncode != 0
    assert "No module named 'missing'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "modules",
    [
        {"jit__utils__compile": COMPILE_17},
        {"jit__utils__compile__loader": LOADER_18, "jit__utils__compile____init__": ""},
    ],
)
def test_recorded_kernels_of_later_releases_are_asked_for_again(
    site: Path, modules: dict[str, str]
) -> None:
    as_later_releases(site, **modules)
    done, kept = run(site, "9.0", ["recorded"], [REQUEST])
    assert done.returncode == 0, done.stderr
    (library,) = kept.rglob("*.so")
    assert library.stem == "sgl_kernel_jit_norm_128"
    assert library.parent.name.startswith(f"{library.stem}_")
    assert library.read_text().startswith("library")


def test_a_kernel_with_two_names_is_compiled_once(site: Path) -> None:
    request: dict[str, object] = {"name": ["activation"], "options": {"cuda_files": ["a.cuh"]}}
    done, kept = run(site, "9.0", ["dense", "recorded"], [request])
    assert done.returncode == 0, done.stderr
    (library,) = kept.rglob("*activation.so")
    assert library.read_text().count("library") == 1


UTILS_09 = """
import os, torch

def load_jit(*args, cuda_files=None, cuda_wrappers=None, **kwargs):
    import tvm_ffi.cpp
    capability = torch.cuda.get_device_capability(torch.cuda.current_device())
    assert capability == (9, 0) and os.environ["TVM_FFI_CUDA_ARCH_LIST"] == "9.0"
    return tvm_ffi.cpp.load_inline(name=f"9.0_{args[0]}", cuda_files=cuda_files)
"""


def test_recorded_kernels_of_0_5_8_and_0_5_9_are_compiled_without_a_gpu(site: Path) -> None:
    (site / "sglang" / "jit_kernel" / "utils.py").write_text(UTILS_09)
    done, kept = run(site, "9.0", ["recorded"], [REQUEST])
    assert done.returncode == 0, done.stderr
    (library,) = kept.rglob("*.so")
    assert library.stem == "sgl_kernel_jit_norm_128"
    assert library.read_text().startswith("library 9.0_norm")


def test_another_architecture_adds_kernels_of_its_own(site: Path) -> None:
    hopper = set(compiled(site, "9.0"))
    both = set(compiled(site, "8.0"))
    assert both > hopper
    assert len(both) == 2 * len(hopper)
