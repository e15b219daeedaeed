"""Tests of torch and SGLang that need no GPU."""

from __future__ import annotations

import pytest
from packaging.version import Version

from images import image_paths
from tests.image import driver
from tests.image.box import Box
from tests.image.subject import Subject

PRELOADED = """
import os, torch_memory_saver
with torch_memory_saver.configure_subprocess():
    print(os.environ["LD_PRELOAD"])
"""
JIT_MODULE = "sglang/jit_kernel/activation.py"
ACTIVATION = """
import torch
from sglang.jit_kernel import activation, utils
with utils.override_jit_cuda_arch(9, 0, "a"):
    print(hasattr(activation._jit_activation_module(torch.bfloat16), "run_activation"))
"""
# tvm-ffi carries FlashInfer's tensors. Without a prebuilt library for this torch, it compiles one
# at its first import, in every new container.
TENSOR = """
import json, os, torch, tvm_ffi
passed = tvm_ffi.get_global_func("testing.echo")(torch.arange(4.0))
print(json.dumps([
    os.path.exists(os.environ["TVM_FFI_CACHE_DIR"]),
    type(passed) is torch.Tensor and passed.tolist(),
]))
"""


def test_torch_is_built_for_the_targets_cuda(box: Box, subject: Subject) -> None:
    subject.need("torch")
    versions = box.ask(
        "import torch, json; print(json.dumps([torch.__version__, torch.version.cuda]))"
    )
    assert versions[0].partition("+")[0] == subject.target.torch
    assert versions[1] == subject.target.cuda


def test_torch_computes(box: Box, subject: Subject) -> None:
    subject.need("torch")
    code = "import torch; a = torch.arange(6.).reshape(2, 3); print((a @ a.T).tolist())"
    assert box.python(code).splitlines()[-1] == "[[5.0, 14.0], [14.0, 50.0]]"


def test_smoke_knows_the_tokens_of_its_model(box: Box, subject: Subject) -> None:
    """The tokens that `smoke` compares an engine's with, computed without SGLang and a GPU."""
    subject.need("torch", "transformers")
    code = """
import json, pathlib, tempfile, torch
from roll_runtime import smoke_model
from transformers import AutoModelForCausalLM
with tempfile.TemporaryDirectory() as folder:
    smoke_model.write(pathlib.Path(folder))
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, output_loading_info=True)
tokens, gap = list(smoke_model.PROMPT), 1.0
for _ in smoke_model.TOKENS:
    with torch.no_grad():
        top = model(torch.tensor([tokens])).logits[0, -1].topk(2)
    tokens.append(int(top.indices[0]))
    gap = min(gap, float(top.values[0] - top.values[1]))
right = tokens == [*smoke_model.PROMPT, *smoke_model.TOKENS]
print(json.dumps([right, gap, sorted(map(str, loading["missing_keys"]))]))
"""
    right, gap, missing = box.ask(code)
    assert right
    assert gap > 0.05, "bf16's rounding must not decide"
    assert missing == []


def need_import_without_gpu(subject: Subject) -> None:
    """Skip, aloud, where SGLang itself takes another way to its kernels without a GPU."""
    subject.need_engine()
    if Version(subject.target.sglang) < Version("0.4.10"):
        pytest.skip("where torch sees no GPU, SGLang 0.4.6 imports vLLM, which no image has")
    if Version(subject.target.torch).release[:2] == (2, 7):
        pytest.skip("SGLang tunes a kernel at import, and Triton 3.3 asks for a GPU's driver then")


def test_engine_can_be_imported(with_driver: Box, subject: Subject) -> None:
    need_import_without_gpu(subject)
    code = "import sglang.srt.entrypoints.engine as engine; print(engine.Engine.__name__)"
    assert with_driver.python(code, env=driver.ENV).splitlines()[-1] == "Engine"


def test_runtime_has_patched_the_engine(with_driver: Box, subject: Subject) -> None:
    need_import_without_gpu(subject)
    code = (
        "import sglang.srt.entrypoints.engine as engine; "
        "print(getattr(engine._set_envs_and_config, '__roll_runtime__', False))"
    )
    assert with_driver.python(code, env=driver.ENV).splitlines()[-1] == "True"
    unpatched = {**driver.ENV, "ROLL_RUNTIME_AUTOLOAD": "0"}
    assert with_driver.python(code, env=unpatched).splitlines()[-1] == "False"


def test_memory_saver_can_be_preloaded(with_driver: Box, subject: Subject) -> None:
    """The engine's children start with it in LD_PRELOAD; a loader that fails exits with 127.

    From 0.0.9.post1 on it contains a library for each CUDA major version: the one that it chooses
    itself is tried.
    """
    subject.need("torch-memory-saver", "torch")
    library = with_driver.python(PRELOADED, env=driver.ENV).splitlines()[-1]
    assert library.startswith(f"/{image_paths.SITE_PACKAGES}/torch_memory_saver")
    loaded = with_driver.attempt("/bin/echo loaded", env={**driver.ENV, "LD_PRELOAD": library})
    assert (loaded.rc, loaded.stdout.strip(), loaded.stderr) == (0, "loaded", "")


def test_engines_own_kernel_can_be_compiled(with_driver: Box, subject: Subject) -> None:
    """Every dense model calls it, and SGLang compiles it at the first call."""
    subject.need_engine()
    if with_driver.attempt(f"test -f /{image_paths.SITE_PACKAGES}/{JIT_MODULE}").rc:
        pytest.skip("this SGLang compiles no kernel of its own for activations")
    env = {**driver.ENV, "TVM_FFI_CACHE_DIR": "/tmp/compiled-kernels"}
    assert with_driver.python(ACTIVATION, env=env).splitlines()[-1] == "True"


def test_tensors_reach_kernels_and_nothing_is_compiled_for_it(box: Box, subject: Subject) -> None:
    subject.need("torch", "apache-tvm-ffi")
    env = {"TVM_FFI_CACHE_DIR": "/tmp/compiled-by-tvm-ffi"}
    assert box.ask(TENSOR, env=env) == [False, [0.0, 1.0, 2.0, 3.0]]


def test_driver_is_not_in_the_image(box: Box) -> None:
    """The host's driver is mounted in; one of the image's own would take its place."""
    command = "find / -xdev \\( -path /tmp -o -path /proc -o -path /sys \\) -prune -o "
    command += "\\( -name 'libcuda.so.*' -o -name 'libnvidia-*' \\) -print"
    assert box.run(command).split() == []
    assert "libcuda.so.1" not in box.run("/sbin/ldconfig -p")
