"""Compiles kernels of FlashInfer; run by the image's own Python in the base's root file system.

    python3.11 -s -P -B worker.py PLACE

The root has the image's compiler, FlashInfer, and the headers that its kernels include, each at its
path in the image. PLACE has `kernels.json`:

    {"architectures": "8.0 9.0a", "torch": "2.8.0", "cxx11_abi": true, "modules": ["norm", ...]}

Each module becomes NAME/NAME.so in PLACE/kernels, which exists, stripped: what nvcc leaves in symbol tables are the
names of its temporary files, other ones in each run.

FlashInfer itself says how a module is compiled: which sources it generates, with which flags. It
imports torch for the names of types and other facts, none of which needs a library of 1 GB and its
dependencies: what is not in the root is replaced by stand-ins.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_CUDA_HOME = "/usr/local/cuda"
_TORCH = Path("/opt/venv/lib/python3.11/site-packages/torch")
_BYTES_OF_TYPES = {"float16": 2, "bfloat16": 2, "float32": 4, "int32": 4, "int64": 8}
_ABSENT = frozenset(
    {
        "cuda",
        "cudnn",
        "cutlass",
        "einops",
        "nvidia",
        "nvidia_cutlass_dsl",
        "numpy",
        "psutil",
        "pynvml",
        "requests",
        "tabulate",
        "torch",
        "torch_c_dlpack_ext",
        "tqdm",
        "triton",
    }
)
"""The packages that FlashInfer's generators import and do not use."""


class _Absent(ModuleType):
    """A stand-in for a module, a class or a value of an absent package."""

    def __getattr__(self, name: str) -> Any:
        """Return a stand-in, the same one each time: types are keys of dictionaries."""
        if name == "__version__":
            return "0"
        if name.startswith("__"):
            raise AttributeError(name)
        found = _Absent(f"{self.__name__}.{name}")
        setattr(self, name, found)
        return found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what a decorator decorates, as it is; else a stand-in."""
        if len(args) == 1 and not kwargs and callable(args[0]) and not isinstance(args[0], _Absent):
            return args[0]
        return self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        """Return what a class inherits that has it as a base."""
        return (object,)

    def __getitem__(self, key: Any) -> Any:
        """Return a stand-in for a generic type."""
        return self

    def __or__(self, other: Any) -> Any:
        """Return a stand-in for a union of types."""
        return self

    __ror__ = __or__


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for the packages that are absent."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] not in _ABSENT:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        parent, _, own = spec.name.rpartition(".")
        module: _Absent = getattr(sys.modules[parent], own) if parent else _Absent(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def _stand_in_for_torch(version: str, cxx11_abi: bool) -> None:
    """Set the facts of torch that FlashInfer's generators read."""
    import torch
    import torch.torch_version
    import torch.utils.cpp_extension as extension
    from packaging.version import Version

    torch.__version__ = torch.torch_version.__version__ = version
    torch.torch_version.TorchVersion = Version
    for name, size in _BYTES_OF_TYPES.items():
        getattr(torch, name).itemsize = size
    torch._C._GLIBCXX_USE_CXX11_ABI = cxx11_abi
    torch.cuda.device_count = lambda: 0
    extension.CUDA_HOME = _CUDA_HOME
    extension._TORCH_PATH = str(_TORCH)
    extension._get_cuda_arch_flags = lambda: []
    extension._get_pybind11_abi_build_flags = lambda: []
    extension._get_num_workers = lambda verbose: None


def _norm() -> Any:
    from flashinfer import norm

    return norm.gen_norm_module()


def _sampling() -> Any:
    from flashinfer import sampling

    return sampling.gen_sampling_module()


def _prefill() -> Any:
    """Attention over a cache of pages: bf16, head size 128."""
    import torch
    from flashinfer import jit

    bf16, size = torch.bfloat16, 128
    return jit.gen_batch_prefill_module(
        "fa2", bf16, bf16, bf16, torch.int32, size, size, 0, False, False, False
    )


_MODULES: dict[str, Callable[[], Any]] = {
    "norm": _norm,
    "sampling": _sampling,
    "attention-bf16-128": _prefill,
}


def _compile(spec: Any, destination: Path) -> None:
    """Compile a module, strip it, and copy it."""
    spec.write_ninja()
    spec.build(verbose=False)
    library = destination / spec.name / f"{spec.name}.so"
    library.parent.mkdir()
    shutil.copyfile(spec.jit_library_path, library)
    subprocess.run(["strip", "--strip-all", str(library)], check=True)


def main(arguments: Sequence[str]) -> None:
    """Compile the modules that `kernels.json` lists."""
    place = Path(arguments[0])
    wanted = json.loads((place / "kernels.json").read_text(encoding="utf-8"))
    os.environ["FLASHINFER_CUDA_ARCH_LIST"] = wanted["architectures"]
    os.environ["TORCH_CUDA_ARCH_LIST"] = wanted["architectures"].replace(" ", ";")
    os.environ["FLASHINFER_WORKSPACE_BASE"] = str(place / "workspace")
    sys.meta_path.insert(0, _Finder())
    _stand_in_for_torch(wanted["torch"], wanted["cxx11_abi"])
    for name in wanted["modules"]:
        _compile(_MODULES[name](), place / "kernels")


if __name__ == "__main__":
    main(sys.argv[1:])
