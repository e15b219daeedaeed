"""Kernels of the image for SGLang's `load_jit`, and for FlashInfer 0.2.5."""

from __future__ import annotations

import ast
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import runtime_wheels

from roll_runtime import _hooks, flashinfer_kernels, image_kernels, jit, jit_kernels

VERSION = "0.5.12.post1"
WRAPPERS = [("run", "Kernel<true>::run")]

Utils = Callable[..., Any]


@pytest.fixture
def utils(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Utils:
    """Return a function that makes a module like `sglang.jit_kernel.utils`, with its sources."""
    (tmp_path / "sglang" / "csrc").mkdir(parents=True)
    (tmp_path / "sglang" / "csrc" / "kernel.cuh").write_text("// kernel\n")
    (tmp_path / "sglang" / "include").mkdir()
    (tmp_path / "sglang" / "include" / "common.h").write_text("// header\n")
    monkeypatch.setattr(image_kernels, "DIRECTORY", tmp_path / "kernels")
    ffi: Any = ModuleType("tvm_ffi")
    ffi.load_module = lambda path: f"loaded {path}"
    ffi.cpp = ModuleType("tvm_ffi.cpp")
    for name in ("load", "load_inline", "build", "build_inline"):
        setattr(ffi.cpp, name, compiler(name, tmp_path / "built"))
    monkeypatch.setitem(sys.modules, "tvm_ffi", ffi)
    monkeypatch.setitem(sys.modules, "tvm_ffi.cpp", ffi.cpp)

    def make(major: int = 9) -> Any:
        jit_kernels._headers.cache_clear()
        module: Any = ModuleType("sglang.jit_kernel.utils")
        module.__file__ = str(tmp_path / "sglang" / "utils.py")
        module.get_jit_cuda_arch = lambda: SimpleNamespace(target_name=f"{major}.0")
        module.load_jit = lambda *args, **kwargs: ffi.cpp.load_inline(args, kwargs)
        jit_kernels.patch_utils(module, VERSION)
        return module

    return make


def compiler(name: str, built: Path) -> Callable[..., str]:
    def compile_(*args: Any, **kwargs: Any) -> str:
        if "build" in name:
            built.write_text("machine code")
            return str(built)
        return f"compiled by {name}"

    return compile_


def load(module: Any, **changed: Any) -> Any:
    given = {"cuda_files": ["kernel.cuh"], "cuda_wrappers": WRAPPERS, **changed}
    return module.load_jit("kernel", "bf16_t", "true", **given)


def build(module: Any, tmp_path: Path) -> Path:
    with jit_kernels.building(tmp_path / "kernels" / "tvm-ffi"):
        return Path(load(module))


def test_the_images_kernel_is_loaded_without_a_compiler(utils: Utils, tmp_path: Path) -> None:
    module = utils()
    assert load(module) == "compiled by load_inline"
    path = build(module, tmp_path)
    assert path.name == "sgl_kernel_jit_kernel_bf16_t_true.so"
    assert path.parent.parent == tmp_path / "kernels" / "tvm-ffi"
    assert path.read_text() == "machine code"
    assert load(utils()) == f"loaded {path}"


def change_source(root: Path) -> None:
    (root / "csrc" / "kernel.cuh").write_text("// another\n")


def change_header(root: Path) -> None:
    (root / "include" / "common.h").write_text("// another\n")


@pytest.mark.parametrize("change", [change_source, change_header])
def test_another_source_misses(
    utils: Utils, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    build(utils(), tmp_path)
    change(tmp_path / "sglang")
    assert load(utils()) == "compiled by load_inline"


@pytest.mark.parametrize(
    "changed",
    [{"extra_cuda_cflags": ["-G"]}, {"cuda_wrappers": [("run", "Kernel<false>::run")]}],
)
def test_other_flags_miss(utils: Utils, tmp_path: Path, changed: dict[str, Any]) -> None:
    build(utils(), tmp_path)
    assert load(utils(), **changed) == "compiled by load_inline"


def test_another_architecture_misses(utils: Utils, tmp_path: Path) -> None:
    build(utils(), tmp_path)
    assert load(utils(8)) == "compiled by load_inline"


def test_other_versions_miss(utils: Utils, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(utils(), tmp_path)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "another")
    assert load(utils()) == "compiled by load_inline"


def test_a_source_that_cannot_be_read_is_the_compilers_matter(utils: Utils, tmp_path: Path) -> None:
    build(utils(), tmp_path)
    assert load(utils(), cuda_files=["missing.cuh"]) == "compiled by load_inline"


def test_a_recompilation_that_is_forced_happens(
    utils: Utils, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SGLang's own setting, with which its compiler reports what a kernel takes."""
    path = build(utils(), tmp_path)
    monkeypatch.setenv("SGLANG_JIT_FORCE_RECOMPILE", "True")
    assert load(utils()) == "compiled by load_inline"
    monkeypatch.setenv("SGLANG_JIT_FORCE_RECOMPILE", "0")
    assert load(utils()) == f"loaded {path}"


def test_a_library_that_cannot_be_loaded_is_compiled(
    utils: Utils, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load_module(path: str) -> None:
        raise OSError("file too short")

    build(utils(), tmp_path)
    monkeypatch.setattr(sys.modules["tvm_ffi"], "load_module", load_module)
    assert load(utils()) == "compiled by load_inline"
    assert "the image's cannot be loaded: file too short" in caplog.text


def test_without_a_gpu_nothing_is_looked_for(
    utils: Utils, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gpu() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system.")

    build(utils(), tmp_path)
    module = utils()
    monkeypatch.setattr(module, "get_jit_cuda_arch", no_gpu)
    assert load(module) == "compiled by load_inline"


def test_the_corrected_kernel_does_not_depend_on_the_cache(
    utils: Utils, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`jit.py` puts the corrected source into the user's cache, whose path differs."""
    (tmp_path / "sglang" / "csrc" / "kernel.cuh").write_text(jit._REFUSED)

    def activation(module: Any) -> Any:
        kernel: Any = ModuleType("sglang.jit_kernel.activation")
        kernel.__file__ = str(tmp_path / "sglang" / "activation.py")
        kernel.load_jit = module.load_jit
        jit.patch_activation(kernel, VERSION)
        assert kernel.load_jit is not module.load_jit
        return kernel

    monkeypatch.setenv("TVM_FFI_CACHE_DIR", str(tmp_path / "of the build"))
    path = build(activation(utils()), tmp_path)
    monkeypatch.setenv("TVM_FFI_CACHE_DIR", str(tmp_path / "of the user"))
    assert load(activation(utils())) == f"loaded {path}"


def test_once_is_enough(utils: Utils) -> None:
    module = utils()
    once = module.load_jit
    jit_kernels.patch_utils(module, VERSION)
    assert module.load_jit is once


def functions_of(release: str, path: str) -> dict[str, str]:
    """The functions of a module of a wheel, by name, each as text."""
    with zipfile.ZipFile(runtime_wheels.fetch(runtime_wheels.read_lock()[release])) as archive:
        tree = ast.parse(archive.read(path).decode())
    return {item.name: ast.unparse(item) for item in tree.body if isinstance(item, ast.FunctionDef)}


@pytest.mark.parametrize("release", ["0.5.10.post1", "0.5.12.post1", "0.5.15.post1"])
def test_sglangs_load_jit_is_what_is_patched(release: str) -> None:
    """Its real source: the names that are used, and what `building` replaces is asked at a call."""
    functions = functions_of(release, "sglang/jit_kernel/utils.py")
    assert "get_jit_cuda_arch" in functions
    assert "override_jit_cuda_arch" in functions
    assert "from tvm_ffi.cpp import load, load_inline" in functions["load_jit"]
    assert "'sgl_kernel_jit_' + '_'.join" in functions["load_jit"]


@pytest.mark.parametrize("release", ["0.5.8.post1", "0.5.9"])
def test_load_jit_of_earlier_releases_is_what_is_patched(release: str) -> None:
    """`import torch` at its top is what the architecture is asked of."""
    path = "sglang/jit_kernel/utils.py"
    assert "from tvm_ffi.cpp import load_inline" in functions_of(release, path)["load_jit"]
    with zipfile.ZipFile(runtime_wheels.fetch(runtime_wheels.read_lock()[release])) as archive:
        assert "\nimport torch\n" in archive.read(path).decode()


LATER = {
    "0.5.17": ("utils/compile.py", "from tvm_ffi.cpp import load, load_inline"),
    "0.5.18": ("utils/compile/loader.py", "return _load(prebuilt)"),
    "0.5.23": ("utils/compile/loader.py", "module = _load(library)"),
}


@pytest.mark.parametrize("release", LATER)
def test_load_jit_of_later_releases_is_what_is_patched(release: str) -> None:
    path, call = LATER[release]
    wheel = runtime_wheels.fetch(runtime_wheels.read_lock()[release])
    with zipfile.ZipFile(wheel) as archive:
        architectures = archive.read("sglang/kernels/jit/utils/arch.py").decode()
        names = archive.namelist()
    assert call in functions_of(release, f"sglang/kernels/jit/{path}")["load_jit"]
    assert "def get_jit_cuda_arch" in architectures
    assert "def override_jit_cuda_arch" in architectures
    module = "sglang.kernels.jit." + path.removesuffix(".py").replace("/", ".")
    assert _hooks.TARGETS[module] == "roll_runtime.jit_kernels:patch_utils"
    for directory in ("csrc", "include"):
        assert any(name.startswith(f"sglang/kernels/jit/{directory}/") for name in names)


@pytest.fixture
def later(utils: Utils, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Utils:
    """Return a function that makes a module like `load_jit`'s of 0.5.18, which compiles itself."""

    def make(major: int = 9) -> Any:
        utils(major)
        package: Any = ModuleType("sglang.kernels.jit")
        package.__file__ = str(tmp_path / "sglang" / "__init__.py")
        arch: Any = ModuleType("sglang.kernels.jit.utils.arch")
        arch.get_jit_cuda_arch = lambda: SimpleNamespace(target_name=f"{major}.0a")
        for one in (package, arch):
            monkeypatch.setitem(sys.modules, one.__name__, one)
        module: Any = ModuleType("sglang.kernels.jit.utils.compile.loader")
        module.__file__ = "/elsewhere/loader.py"
        module._load = lambda library: f"loaded by SGLang: {library.read_text()}"

        def load_jit(*args: Any, **kwargs: Any) -> Any:
            staging = tmp_path / "staging"
            staging.mkdir()
            (staging / "a.so").write_text("machine code")
            try:
                return module._load(staging / "a.so")
            finally:
                shutil.rmtree(staging)

        module.load_jit = load_jit
        jit_kernels.patch_utils(module, "0.5.18")
        return module

    return make


def test_later_releases_load_the_images_kernel(later: Utils, tmp_path: Path) -> None:
    assert load(later()) == "loaded by SGLang: machine code"
    path = build(later(), tmp_path)
    assert path.read_text() == "machine code"
    assert load(later()) == f"loaded {path}"
    assert load(later(8)) == "loaded by SGLang: machine code"
    change_header(tmp_path / "sglang")
    assert load(later()) == "loaded by SGLang: machine code"


def test_files_outside_of_the_package_are_in_the_key(later: Utils, tmp_path: Path) -> None:
    extra = tmp_path / "extra.cu"
    extra.write_text("// one\n")
    given: dict[str, Any] = {"external_cuda_files": [str(extra)]}
    first = jit_kernels.relative_path(later(), ("a",), given)
    extra.write_text("// another\n")
    assert jit_kernels.relative_path(later(), ("a",), given) != first


def test_headers_outside_of_the_package_are_in_the_key(utils: Utils, tmp_path: Path) -> None:
    header = tmp_path / "elsewhere" / "other.h"
    header.parent.mkdir()
    header.write_text("// one\n")
    given = {"extra_include_paths": [str(header.parent)]}
    first = jit_kernels.relative_path(utils(), ("a",), given)
    header.write_text("// another\n")
    assert jit_kernels.relative_path(utils(), ("a",), given) != first


def test_before_0_5_10_the_architecture_is_the_gpus(utils: Utils, tmp_path: Path) -> None:
    def patched(*capability: int) -> Any:
        module: Any = ModuleType("sglang.jit_kernel.utils")
        module.__file__ = utils().__file__
        cuda = SimpleNamespace(get_device_capability=lambda: capability)
        module.torch = SimpleNamespace(cuda=cuda)
        module.load_jit = lambda *args, **kwargs: sys.modules["tvm_ffi.cpp"].load_inline()
        jit_kernels.patch_utils(module, "0.5.9")
        return module

    path = build(patched(9, 0), tmp_path)
    assert load(patched(9, 0)) == f"loaded {path}"
    assert load(patched(10, 0)) == "compiled by load_inline"


def test_a_compiler_without_an_architecture_is_left_alone() -> None:
    module: Any = ModuleType("sglang.jit_kernel.utils")
    module.load_jit = upstream = lambda: None
    jit_kernels.patch_utils(module, "0.5.7")
    assert module.load_jit is upstream


class Operations:
    norm = "the operations"

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load_library(self, path: str) -> None:
        self.loaded.append(path)


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module like FlashInfer 0.2.5's `jit.core`."""
    monkeypatch.setattr(image_kernels, "DIRECTORY", tmp_path)
    module: Any = ModuleType("flashinfer.jit.core")
    module.torch = SimpleNamespace(ops=Operations())
    module.load_cuda_ops = lambda name, sources: f"{name} compiled"
    return module


def test_flashinfers_module_of_the_image(core: Any, tmp_path: Path) -> None:
    (tmp_path / "flashinfer" / "norm").mkdir(parents=True)
    (tmp_path / "flashinfer" / "norm" / "norm.so").touch()
    for _ in range(2):
        flashinfer_kernels.patch_core(core, "0.4.6.post4")
    assert core.load_cuda_ops("norm", []) == "the operations"
    assert core.torch.ops.loaded == [str(tmp_path / "flashinfer" / "norm" / "norm.so")]
    assert core.load_cuda_ops("rope", []) == "rope compiled"


@pytest.mark.parametrize("later", [True, False])
def test_flashinfer_that_is_left_alone(core: Any, tmp_path: Path, later: bool) -> None:
    """A later one finds its modules itself; and an image may have none."""
    upstream = core.load_cuda_ops
    if later:
        (tmp_path / "flashinfer").mkdir()
        core.JitSpec = object
    flashinfer_kernels.patch_core(core, "0.5.2")
    assert core.load_cuda_ops is upstream
