"""Kernels that the image's build compiled: for every GPU that it serves, loaded without a compiler.

On a GPU `tests/gpu` looks whether an engine compiles any.
"""

from __future__ import annotations

import re

import pytest

from images import image_paths
from images.content.kernels import kernel_inputs, sglang_worker
from images.content.kernels.kernel_inputs import Kernels
from tests.image import driver
from tests.image.box import Box
from tests.image.subject import Subject

AOT = f"/{image_paths.SITE_PACKAGES}/flashinfer/data/aot"
TVM = f"/{image_paths.PREFIX}/kernels/tvm-ffi"
IN_TRITON = f"/{image_paths.PREFIX}/kernels/triton"
LIBRARIES = {
    "norm": "norm",
    "sampling": "sampling",
    "attention-bf16-128": r"batch_prefill_with_kv_cache_\w+_head_dim_qk_128_\w+",
}
"""The name of the library of each module of FlashInfer."""

OF_TORCH = {"libc10.so", "libc10_cuda.so", "libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so"}
"""What a library that torch loads must name itself, as Python's import of torch hides its names."""

RECORDED = """
import importlib.metadata, json, os
files = importlib.metadata.files("flashinfer-python")
print(json.dumps(sorted(os.path.normpath(file.locate()) for file in files)))
"""

# ninja and g++ are not found: FlashInfer asks nvcc for its version, and writes ninja's file anyway.
# It is told a GPU, as there is none.
ALONE = """
import json, os, sys
os.environ |= {"PATH": "/nonexistent", "CXX": "/nonexistent",
               "TORCH_CUDA_ARCH_LIST": "9.0a", "FLASHINFER_CUDA_ARCH_LIST": "9.0a"}
"""
FLASHINFER = f"""{ALONE}
import importlib
module, generator = sys.argv[1:]
spec = getattr(importlib.import_module(module), generator)()
print(json.dumps([spec.is_aot, spec.build_and_load() is not None]))
"""
GENERATORS = {
    "norm": ("flashinfer.norm", "gen_norm_module"),
    "sampling": ("flashinfer.sampling", "gen_sampling_module"),
}

# What the engine's layers call. SGLang registers operators for CUDA, here they run on the CPU; a
# library is loaded, but its functions, which need a GPU, are not called.
SGLANG = f"""{ALONE}
import torch, tvm_ffi
load, loaded, define = tvm_ffi.load_module, [], torch.library.Library.impl
class Loaded:
    def __init__(self, path):
        loaded.append(path)
        self._library = load(path)
    def __getattr__(self, name):
        getattr(self._library, name)
        return lambda *arguments: None
def impl(library, name, function, key="", **others):
    on_the_cpu = (library.ns, key) == ("sglang", "CUDA")
    define(library, name, function, "CPU" if on_the_cpu else key, **others)
tvm_ffi.load_module, torch.library.Library.impl = Loaded, impl
from sglang.jit_kernel import utils
def dense():
    from sglang.jit_kernel import activation, clamp_position, kvcache, norm, rope
    places, bf16 = torch.zeros(1, dtype=torch.int64), torch.bfloat16
    hidden, weight = torch.zeros(1, 512, dtype=bf16), torch.zeros(128, dtype=bf16)
    heads = hidden.view(1, 4, 128)
    activation.silu_and_mul(hidden)
    clamp_position.clamp_position_cuda(places)
    rope.apply_rope_with_cos_sin_cache_inplace(
        heads, heads, torch.zeros(8, 128), places, is_neox=True)
    assert norm.can_use_fused_inplace_qknorm(128, bf16)
    norm.fused_inplace_qknorm(heads, heads, weight, weight)
    for keys in (2, 4, 8):
        row = torch.zeros(1, keys * 128, dtype=bf16)
        assert kvcache.can_use_store_cache(row.nbytes)
        kvcache.store_cache(row, row, row, row, places, row_bytes=row.nbytes)
def future_tokens():
    from sglang.jit_kernel import resolve_future_token_ids
    places = torch.zeros(1, dtype=torch.int64)
    resolve_future_token_ids.resolve_future_token_ids_cuda(places, places)
calls = {{"dense": dense, "future-tokens": future_tokens}}
major, minor = map(int, sys.argv[1].split("."))
with utils.override_jit_cuda_arch(major, minor):
    for name in sys.argv[2].split(","):
        calls[name]()
print(json.dumps(sorted(set(loaded))))
"""

# What was recorded on a GPU is asked for again.
OF_A_RECORDING = f"""{ALONE}
import pathlib, tvm_ffi
from unittest import mock
load, loaded = tvm_ffi.load_module, []
def load_module(path):
    loaded.append(path)
    return load(path)
tvm_ffi.load_module = load_module
try:
    from sglang.kernels.jit import utils
except ModuleNotFoundError:
    from sglang.jit_kernel import utils
if hasattr(utils, "override_jit_cuda_arch"):
    place = utils.override_jit_cuda_arch(*map(int, sys.argv[1].split(".")))
else:
    capability = tuple(map(int, sys.argv[1].split(".")))
    place = mock.patch.object(utils.torch.cuda, "get_device_capability", return_value=capability)
with place:
    for asked in json.loads(pathlib.Path(sys.argv[2]).read_text())["sglang"]:
        utils.load_jit(*asked["name"], **asked["options"])
print(json.dumps(sorted(set(loaded))))
"""

MANAGER = "roll_runtime.triton_cache:ImageCacheManager"
"""What roll_runtime sets when the engine is imported."""

# Triton asks roll_runtime's cache manager for each; what that has not is compiled, and written to
# the user's cache. inductor's kernels are imported with torch's own decorators.
TRITON = f"""{ALONE}
import importlib, pathlib
from unittest import mock
import triton, triton.language
from torch._inductor.runtime import triton_helpers
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction
sys.path.insert(0, sys.argv[3])
found = {{}}
def recorded(value):
    if isinstance(value, dict):
        return triton.language.dtype(value["dtype"])
    return tuple(map(recorded, value)) if isinstance(value, list) else value
for number, kernel in enumerate(json.loads(pathlib.Path(sys.argv[1]).read_text())["triton"]):
    name = kernel["module"]
    if kernel["source"]:
        name = f"generated_{{number}}"
        pathlib.Path(sys.argv[3], f"{{name}}.py").write_text("\\n".join(kernel["source"]))
        importlib.invalidate_caches()
    with mock.patch.object(triton_helpers, "set_driver_to_gpu"):
        function = getattr(importlib.import_module(name), kernel["function"])
    while not isinstance(function, JITFunction):
        function = function.fn
    values = {{tuple(path): recorded(value) for path, value in kernel["constants"]}}
    attributes = {{tuple(path): value for path, value in kernel["attributes"]}}
    signature = {{name: recorded(kind) for name, kind in kernel["signature"].items()}}
    source = ASTSource(function, signature, values, attributes)
    options = {{name: recorded(value) for name, value in kernel["options"].items()}}
    for gpu in sys.argv[2].split(","):
        target = GPUTarget("cuda", int(gpu), 32)
        made = triton.compile(source, target=target, options=options)
        if hasattr(driver, "compile_module_from_src"):  # not from Triton 3.8 on
            driver.CudaUtils()
        if hasattr(driver, "make_launcher"):  # not from 3.7 on
            driver.CudaLauncher(made.src, made.metadata)
        found.setdefault(kernel["function"], []).append(len(made.asm["cubin"]) > 0)
print(json.dumps(found))
"""


@pytest.fixture
def kernels(subject: Subject) -> Kernels:
    """The kernels that matrix.yaml names for the image."""
    found = kernel_inputs.of(subject.target)
    if found is None or subject.target.base:
        pytest.skip("no kernels are compiled for this image")
    return found


def libraries(box: Box) -> list[str]:
    return box.run(f"ls {AOT}/*/*.so {TVM}/*/*.so 2>/dev/null || true").split()


def needed(box: Box, library: str) -> set[str]:
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", box.run("readelf -d %s", library)))


def architectures(box: Box, library: str) -> set[str]:
    """The architectures that a library has machine code for, e.g. `90a`."""
    listing = box.run("cuobjdump --list-elf %s", library)
    return set(re.findall(r"\.sm_(\d+[af]?)\.cubin", listing))


def runs_on(architecture: str, gpu: str) -> bool:
    """NVIDIA's rule: X.y runs on X.z with z >= y, `a` on X.y alone."""
    number = int(architecture.rstrip("af"))
    wanted = int(gpu.replace(".", ""))
    if architecture.endswith("a"):
        return number == wanted
    return number // 10 == wanted // 10 and number <= wanted


def test_each_module_has_its_libraries(box: Box, kernels: Kernels) -> None:
    found = libraries(box)
    aot = [path.split("/")[-2] for path in found if path.startswith(AOT)]
    for module in kernels.flashinfer:
        assert len([name for name in aot if re.fullmatch(LIBRARIES[module], name)]) == 1
    assert len(aot) == len(kernels.flashinfer)
    assert box.attempt(f"test -d {IN_TRITON}").succeeded == bool(kernels.triton)
    assert len(found) - len(aot) >= len(kernels.sglang)
    assert all(path.split("/")[-2].startswith(path.split("/")[-1][:-3]) for path in found)


def test_every_served_gpu_has_machine_code(box: Box, subject: Subject, kernels: Kernels) -> None:
    for library in libraries(box):
        if library.startswith(AOT):
            found = architectures(box, library)
            for gpu in subject.target.gpus:
                assert any(runs_on(one, gpu) for one in found), f"{library}: {gpu}: {found}"
            assert len(found) == len(kernels.architectures)


def test_sglangs_kernels_have_machine_code_of_one_architecture(box: Box, kernels: Kernels) -> None:
    wanted = {gpu.replace(".", "") for gpu, _ in kernels.sglang}
    found = [architectures(box, path) for path in libraries(box) if path.startswith(TVM)]
    # From 0.5.17 on they are for 9.0a: an instruction more, and no later GPU.
    assert {tuple(name.rstrip("a") for name in one) for one in found} == {(one,) for one in wanted}


def test_all_of_them_are_in_the_record_of_flashinfer(box: Box, kernels: Kernels) -> None:
    """So `pip uninstall` removes them, and pip sees what was changed."""
    recorded = box.ask(RECORDED)
    in_triton = box.run(f"find {IN_TRITON} -type f || true").split()
    assert {*libraries(box), *in_triton} <= set(recorded)
    assert len(set(recorded)) == len(recorded)


def test_what_they_need_is_named_and_found(
    with_driver: Box, subject: Subject, kernels: Kernels
) -> None:
    found = {library: needed(with_driver, library) for library in libraries(with_driver)}
    for library, names in found.items():
        assert f"libcudart.so.{subject.cuda_major}" in names, library
        assert not any(name.startswith("libtorch") for name in names) or names >= OF_TORCH, library
    if subject.target.sglang == "0.5.2":
        assert all(names >= OF_TORCH for names in found.values())


def test_they_have_no_names_of_temporary_files(box: Box, kernels: Kernels) -> None:
    """Those of nvcc are other ones in each run."""
    for library in libraries(box):
        assert "no symbols" in box.run("nm %s 2>&1", library)
        assert box.run("grep -c tmpxft %s || true", library).strip() == "0"


def test_modules_of_flashinfer_are_loaded_without_a_compiler(
    with_driver: Box, kernels: Kernels
) -> None:
    if not kernels.flashinfer:
        pytest.skip("no modules of FlashInfer are compiled for this image")
    env = {**driver.ENV, "HOME": "/tmp/no-kernels", "FLASHINFER_WORKSPACE_BASE": "/tmp/no-kernels"}
    for module in kernels.flashinfer:
        if module in GENERATORS:
            found = with_driver.ask(FLASHINFER, *GENERATORS[module], env=env)
            assert found == [True, True], module
    assert with_driver.run("find /tmp/no-kernels -name '*.so' -o -name '*.o'").split() == []


def test_kernels_of_sglang_are_loaded_without_a_compiler(
    with_driver: Box, kernels: Kernels
) -> None:
    """roll_runtime finds them by the contents of SGLang's sources; none is there without need."""
    if not kernels.sglang:
        pytest.skip("none of SGLang's own kernels are compiled for this image")
    loaded: set[str] = set()
    for number, (gpu, names) in enumerate(kernels.sglang):
        cache = f"/tmp/no-kernels-{number}"
        env = {**driver.ENV, "TVM_FFI_CACHE_DIR": cache, "SGLANG_JIT_CACHE_DIR": cache}
        if called := ",".join(name for name in names if name != sglang_worker.RECORDED):
            loaded |= set(with_driver.ask(SGLANG, gpu, called, env=env))
        if sglang_worker.RECORDED in names and kernels.recording:
            with_driver.write("/tmp/recording.json", kernels.recording.read_text())
            loaded |= set(with_driver.ask(OF_A_RECORDING, gpu, "/tmp/recording.json", env=env))
        assert with_driver.run(f"find {cache} -name '*.so' || true").split() == []
    assert loaded == {path for path in libraries(with_driver) if path.startswith(TVM)}


def test_kernels_in_triton_are_found_without_a_compiler(with_driver: Box, kernels: Kernels) -> None:
    """The keys of the image's Triton, torch and SGLang are those of the build."""
    if kernels.recording is None or not kernels.triton:
        pytest.skip("no kernels in Triton are compiled for this image")
    gpus = ",".join(gpu.replace(".", "") for gpu in kernels.triton)
    place = "/tmp/no-kernels-in-triton"
    with_driver.write(f"{place}/recording.json", kernels.recording.read_text())
    env = {
        **driver.ENV,
        "HOME": place,
        "TRITON_CACHE_DIR": f"{place}/triton",
        "TRITON_CACHE_MANAGER": MANAGER,
    }
    found = with_driver.ask(TRITON, f"{place}/recording.json", gpus, place, env=env)
    recorded = kernel_inputs.read(kernels.recording)["triton"]
    assert set(found) == {one["function"] for one in recorded}
    assert all(all(ones) and len(ones) % len(kernels.triton) == 0 for ones in found.values())
    assert with_driver.run(f"find {place}/triton -type f || true").split() == []
