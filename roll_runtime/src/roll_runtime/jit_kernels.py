"""SGLang's own kernels that it compiles through TVM's FFI: those of the image are loaded instead.

SGLang 0.5.12's `load_jit` leads to ninja each time, also where a cache has the library, and the
cache's key has absolute paths and no contents; that of 0.5.17 and later looks into the user's cache
alone. The image has them by a key of their own, in `kernels/tvm-ffi/<name>_<key>/<name>.so`: the
sources' and headers' contents, the wrappers, flags and architecture, and the versions of SGLang and
TVM's FFI decide it. Another source or flag misses and is compiled as ever.

`building` makes them, without a GPU, when the image is built.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from roll_runtime import image_kernels

log = logging.getLogger("roll_runtime")

_PREFIX = "sgl_kernel_jit_"

_PACKAGE = "sglang.kernels.jit"
"""SGLang's package from 0.5.17 on; before, `sglang.jit_kernel.utils` is all of it."""

_RECOMPILE = "SGLANG_JIT_FORCE_RECOMPILE"
"""SGLang's setting by which a kernel that is there is compiled all the same (read in 0.5.23)."""

_MARK = "__roll_runtime_kernels__"
"""Not the one of `jit.py`, which patches the same function by another module's name."""

_target: Path | None = None
"""Where compiled kernels are put instead of being loaded, inside `building`."""


def patch_utils(module: ModuleType, version: str) -> None:
    """Let the module of SGLang's `load_jit` load the image's kernels; idempotent.

    Args:
        module: the executed module. SGLang's kernels import its `load_jit` by name, after this.
        version: SGLang's version.
    """
    upstream = getattr(module, "load_jit", None)
    if upstream is None or hasattr(upstream, _MARK):
        return
    if _names_architecture(module) is None:
        return

    @functools.wraps(upstream)
    def load_jit(*args: Any, **kwargs: Any) -> Any:
        if _target is not None:
            target = _target / relative_path(module, args, kwargs)
            return _build(target, module, upstream, args, kwargs)
        library = _of_the_image(module, args, kwargs)
        if library is not None:
            try:
                return _load(library)
            except Exception as error:
                log.warning("%s is compiled, since the image's cannot be loaded: %s", args, error)
        return upstream(*args, **kwargs)

    setattr(load_jit, _MARK, True)
    module.load_jit = _untraced(module)(load_jit)  # type: ignore[attr-defined]


def _untraced(module: ModuleType) -> Callable[[Any], Any]:
    """Return what keeps a function out of torch.compile's graphs, as SGLang does from 0.5.18.

    A kernel may be loaded first inside of a compiled function, and reading files is no graph.
    """
    compiler = getattr(vars(module).get("torch"), "compiler", None)
    return getattr(compiler, "disable", lambda function: function)


def _load(library: Path) -> Any:
    import tvm_ffi  # type: ignore[import-not-found,unused-ignore]

    return tvm_ffi.load_module(str(library))


def _of_the_image(module: ModuleType, args: Any, kwargs: Any) -> Path | None:
    folder = image_kernels.directory("tvm-ffi")
    if folder is None or os.environ.get(_RECOMPILE, "").lower() in {"1", "true", "yes", "y"}:
        return None
    try:
        library = folder / relative_path(module, args, kwargs)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        log.debug("the image's kernels are not asked for %s: %s", args, error)
        return None
    return library if library.is_file() else None


def relative_path(module: ModuleType, args: Any, kwargs: Any) -> Path:
    """Return a kernel's path below the image's kernels for TVM's FFI.

    Args:
        module: that of `load_jit`.
        args: the arguments of its `load_jit`: the parts of the name.
        kwargs: its other arguments.

    Raises:
        OSError: a source cannot be read.
        RuntimeError: there is no GPU whose architecture could be asked for.
        TypeError: an argument is of an unknown kind.
    """
    name = _PREFIX + "_".join(str(arg) for arg in args)
    architecture = _names_architecture(module)
    if architecture is None:
        raise TypeError(f"{module.__name__} knows no GPU")
    inputs = {
        "arguments": {key: value for key, value in kwargs.items() if not key.endswith("_files")},
        "sources": {key: _texts(module, kwargs.get(key)) for key in _file_lists(kwargs)},
        "headers": [_headers(folder) for folder in _include_paths(module, kwargs)],
        "architecture": architecture(),
        "versions": [_version(item) for item in ("sglang", "apache-tvm-ffi", "torch")],
    }
    text = json.dumps(inputs, sort_keys=True).encode()
    return Path(f"{name}_{hashlib.sha256(text).hexdigest()[:16]}") / f"{name}.so"


def _file_lists(kwargs: Any) -> set[str]:
    """Return the arguments that are lists of files: 0.5.17 has more than the two."""
    return {"cpp_files", "cuda_files", *(key for key in kwargs if key.endswith("_files"))}


def _of_architectures(module: ModuleType) -> Any:
    """Return the module that knows the GPU's architecture."""
    return sys.modules.get(f"{_PACKAGE}.utils.arch", module)


def _names_architecture(module: ModuleType) -> "Callable[[], str] | None":
    """Return what names the architecture to compile for; `None` where nothing does."""
    known = _of_architectures(module)
    if hasattr(known, "get_jit_cuda_arch"):
        return lambda: str(known.get_jit_cuda_arch().target_name)
    # 0.5.9 asks the GPU, and TVM's FFI does so for 0.5.8.
    torch = vars(module).get("torch")
    return None if torch is None else lambda: "{}.{}".format(*torch.cuda.get_device_capability())


def _directory(module: ModuleType) -> Path:
    """Return the directory of the sources and headers."""
    package = sys.modules.get(_PACKAGE, module)
    return Path(str(package.__file__)).parent


def _include_paths(module: ModuleType, kwargs: Any) -> list[Path]:
    """Return the directories of headers: SGLang's own, and those of its arguments."""
    further = kwargs.get("extra_include_paths") or ()
    return [_directory(module) / "include", *map(Path, further)]


def _texts(module: ModuleType, files: list[str] | None) -> list[str]:
    # An absolute path, as jit.py's, stays as it is.
    sources = _directory(module) / "csrc"
    return [_digest(sources / name) for name in files or []]


@functools.cache
def _headers(folder: Path) -> list[list[str]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), _digest(path)] for path in files]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


@contextlib.contextmanager
def building(target: Path) -> Iterator[None]:
    """Let `load_jit` compile and keep each kernel below `target` instead of loading it.

    For the image's build, with an architecture in the GPU's place: one process for each, because
    SGLang keeps what it derived from it.
    """
    global _target
    _target = target
    try:
        yield
    finally:
        _target = None


def _build(target: Path, module: ModuleType, upstream: Any, args: Any, kwargs: Any) -> Path:
    """Compile a kernel, keep it as `target` and return that; one that is there already is that."""
    if target.is_file():
        return target
    from unittest import mock  # slow to import, and an engine does not need it

    import tvm_ffi.cpp as compiler  # type: ignore[import-not-found,unused-ignore]

    target.parent.mkdir(parents=True, exist_ok=True)
    # They compile, then load, which may need a driver. SGLang looks them up at each call; from
    # 0.5.18 on it compiles by itself, in a directory that goes, and loads by `_load`.
    calls = {"load": compiler.build, "load_inline": compiler.build_inline}
    with mock.patch.multiple(compiler, **calls), contextlib.ExitStack() as replaced:
        if hasattr(module, "_load"):
            keep = functools.partial(shutil.copyfile, dst=target)
            replaced.enter_context(mock.patch.object(module, "_load", keep))
        built = Path(upstream(*args, **kwargs))
    if built != target:
        shutil.copyfile(built, target)
    return target
