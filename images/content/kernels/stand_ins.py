"""Stand-ins for the packages that kernels are compiled without.

FlashInfer and SGLang say themselves how a kernel is compiled: which sources are generated, with
which flags. They import torch for the names of types and other facts, none of which needs a library
of 1 GB and its dependencies. What is absent in the root is replaced by stand-ins; a kernel whose
sources depended on one would not compile.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

_BYTES_OF_TYPES = {"float16": 2, "bfloat16": 2, "float32": 4, "int32": 4, "int64": 8}
_LARGEST = {"float32": float.fromhex("0x1.fffffep127")}
_ABSENT = frozenset(
    {
        "cuda",
        "cudnn",
        "einops",
        "nvidia",
        "numpy",
        "psutil",
        "pynvml",
        "requests",
        "sgl_kernel",
        "tabulate",
        "torch",
        "torch_c_dlpack_ext",
        "tqdm",
        "triton",
    }
)
"""The packages that are imported without need; any other one that is missing is an error.

Not `cutlass`: FlashInfer looks whether it is there, and imports its kernels in CuTe DSL only then;
they call cutlass as they are imported."""


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
        """Return what a class inherits that has it as a base: nothing."""
        return ()

    def __getitem__(self, key: Any) -> Any:
        """Return a stand-in for a generic type."""
        return self

    def __or__(self, other: Any) -> Any:
        """Return a stand-in for a union of types."""
        return self

    __ror__ = __or__


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for the packages that are absent."""

    def __init__(self, site_packages: str, unused: str, used: tuple[str, ...]) -> None:
        self._site_packages = site_packages
        self._absent = {*_ABSENT, unused}
        self._used = used

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return a stand-in's spec for a module of an absent or unused package; else `None`."""
        is_used = any(_is_below(name, used) for used in self._used)
        if is_used or name.partition(".")[0] not in self._absent:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return a stand-in; what is used of a package is found below it."""
        parent, _, own = spec.name.rpartition(".")
        module: _Absent = getattr(sys.modules[parent], own) if parent else _Absent(spec.name)
        is_there = any(_is_below(used, spec.name) for used in self._used)
        folder = Path(self._site_packages, *spec.name.split("."))
        module.__path__ = [str(folder)] if is_there else []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: a stand-in has no code."""


def _custom_op(*args: Any, **kwargs: Any) -> Any:
    """Return what decorates an operator of torch: the function stays, and may get a fake."""

    def operator(function: Any) -> Any:
        function.register_fake = lambda fake: fake
        return function

    return operator


def _finfo(dtype: Any) -> Any:
    """Return what is read of a type of floating-point numbers: its largest one."""
    return SimpleNamespace(max=_LARGEST[dtype.__name__.removeprefix("torch.")])


def _import_without_torch(name: str) -> None:
    """Import a module, if it is there, that would look into torch; it works without."""
    absent: Any = None
    sys.modules["torch"] = absent  # else torch's headers would count as a package
    with suppress(ModuleNotFoundError):
        importlib.import_module(name)
    del sys.modules["torch"]


def _is_below(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def install(wanted: dict[str, Any], *, unused: str = "", used: tuple[str, ...] = ()) -> None:
    """Put stand-ins in place, and set the facts of torch that are read.

    Args:
        wanted: the content of `kernels.json`: the version of torch, whether it is compiled with
            libstdc++'s new ABI, and the paths of CUDA and of the installed packages.
        unused: a package that is there, and replaced all the same but for what is used of it.
        used: the modules and packages that are there and are not replaced.
    """
    _import_without_torch("tvm_ffi.cpp")
    sys.meta_path.insert(0, _Finder(wanted["site_packages"], unused, used))
    import torch
    import torch.torch_version
    import torch.utils.cpp_extension as extension
    from packaging.version import Version

    torch.__version__ = torch.torch_version.__version__ = wanted["torch"]
    torch.torch_version.TorchVersion = Version
    torch.dtype = _Absent
    torch.finfo = _finfo
    torch.library.custom_op = _custom_op
    torch.version.hip = torch.version.musa = None  # other platforms than CUDA
    for name, size in _BYTES_OF_TYPES.items():
        getattr(torch, name).itemsize = size
    torch._C._GLIBCXX_USE_CXX11_ABI = wanted["cxx11_abi"]
    torch.cuda.device_count = lambda: 0
    torch.cuda.is_available = lambda: False
    torch.cuda.get_device_capability = lambda device=0: (0, 0)
    extension.CUDA_HOME = wanted["cuda_home"]
    extension._TORCH_PATH = str(Path(wanted["site_packages"], "torch"))
    extension._get_cuda_arch_flags = lambda: []
    extension._get_pybind11_abi_build_flags = lambda: []
    extension._get_num_workers = lambda verbose: None
