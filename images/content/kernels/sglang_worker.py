"""Compiles SGLang's own kernels for one architecture, as `flashinfer_worker.py` does FlashInfer's.

    python3.11 -s -P -B sglang_worker.py DIRECTORY ARCHITECTURE KERNEL...

SGLang keeps what it derived from an architecture, so each one, such as 9.0, takes a process. Of
`kernels.json` this is read:

    {"torch": "2.11.0", "cxx11_abi": true, "cuda_home": "/usr/local/cuda", "prefix": "/opt/venv",
     "site_packages": "/opt/venv/lib/python3.11/site-packages",
     "sglang": [{"name": ["qknorm", "128"], "options": {"cuda_files": [...], ...}}, ...]}

`sglang` is what `load_jit` is asked for on a GPU of that architecture: its arguments, as
`tests/gpu/kernel_recorder.py` writes them. The names and keys of the libraries are those that
roll_runtime looks for (`roll_runtime.jit_kernels`, which is in the root).
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock


def _dense() -> None:
    """Compile what dense models and mixtures of experts call at each step: head size 128, bf16."""
    import torch
    from sglang.jit_kernel import activation, clamp_position, kvcache, norm, rope

    bf16, size = torch.bfloat16, 128
    activation._jit_activation_module(bf16)
    clamp_position._jit_clamp_position_module(torch.int64)
    rope._jit_fused_rope_module(True, size, bf16)
    norm._jit_qknorm_module(size, bf16)
    for heads in (2, 4, 8):  # of keys, on one GPU
        kvcache._jit_kvcache_module(heads * size * bf16.itemsize)


def _future_tokens() -> None:
    """Compile what puts the tokens of the step before into a batch."""
    import torch
    from sglang.jit_kernel import resolve_future_token_ids

    resolve_future_token_ids._jit_resolve_future_token_ids_module(torch.int64)


KERNELS: dict[str, Callable[[], None]] = {"dense": _dense, "future-tokens": _future_tokens}
"""What compiles each kernel, by its name in matrix.yaml without `sglang-`. A release without one of
these fails the build that names it: matrix.yaml says which has which."""

RECORDED = "recorded"
"""The name, in the same way, of the kernels that a recording lists."""

USED = ("sglang.jit_kernel", "sglang.kernels", "sglang.srt.environ")
"""Where releases of SGLang have their kernels, the second from 0.5.17 on; and its settings."""

_LOADERS = (
    "sglang.jit_kernel.utils",
    "sglang.kernels.jit.utils.compile.loader",
    "sglang.kernels.jit.utils.compile",
)
"""The modules that define `load_jit`, in releases until 0.5.15, from 0.5.18 on, and between."""


def _loader() -> Any:
    """Return the module of this release that defines `load_jit`."""
    for name in _LOADERS:
        if found := _module(name):
            return found
    raise ModuleNotFoundError(f"SGLang has none of {', '.join(_LOADERS)}")


def _module(name: str) -> Any:
    """Return a module, or `None` where SGLang does not have it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise


def _compile_recorded(loader: Any, requests: list[dict[str, Any]]) -> None:
    for request in requests:
        options = {name: _value(value) for name, value in request["options"].items()}
        loader.load_jit(*request["name"], **options)


def _value(value: Any) -> Any:
    """Return a recorded value: pairs of names were tuples, which JSON does not have."""
    if isinstance(value, list):
        return [tuple(item) if isinstance(item, list) else item for item in value]
    return value


def _without_gpu(architectures: Any, architecture: str) -> AbstractContextManager[Any]:
    """Let SGLang compile for an architecture, such as 9.0, without asking a GPU."""
    major, minor = map(int, architecture.split("."))
    if hasattr(architectures, "override_jit_cuda_arch"):
        found: AbstractContextManager[Any] = architectures.override_jit_cuda_arch(major, minor)
        return found
    # 0.5.9 asks torch for it, and TVM's FFI the variable for 0.5.8.
    os.environ["TVM_FFI_CUDA_ARCH_LIST"] = architecture
    gpu = SimpleNamespace(current_device=lambda: 0, get_device_capability=lambda *_: (major, minor))
    return mock.patch.object(architectures.torch, "cuda", gpu)


def main(directory: Path, architecture: str, names: list[str]) -> None:
    """Compile kernels for one architecture."""
    sys.path.append(str(directory))
    import stand_ins

    wanted = json.loads((directory / "kernels.json").read_text(encoding="utf-8"))
    cache = str(directory / "tvm-ffi" / architecture)  # it is in what is compiled
    os.environ |= {"TVM_FFI_CACHE_DIR": cache, "SGLANG_JIT_CACHE_DIR": cache}
    stand_ins.install(wanted, unused="sglang", used=USED)
    loader = _loader()
    architectures = sys.modules.get("sglang.kernels.jit.utils.arch", loader)
    from roll_runtime import jit, jit_kernels

    jit_kernels.patch_utils(loader, "")
    if activation := _module("sglang.jit_kernel.activation"):
        jit.patch_activation(activation, "")
    kernels = Path(wanted["prefix"], "kernels", "tvm-ffi")
    target = directory / "kernels" / kernels.relative_to("/")
    earlier = set(target.glob("*/*.so"))
    with _without_gpu(architectures, architecture), jit_kernels.building(target):
        for name in names:
            if name == RECORDED:
                _compile_recorded(loader, wanted["sglang"])
            else:
                KERNELS[name]()
    for library in set(target.glob("*/*.so")) - earlier:
        subprocess.run(["strip", "--strip-all", str(library)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
