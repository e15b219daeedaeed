"""Compiles the recorded kernels in Triton, without a GPU: for those that the image serves.

    python3.11 -s -P -B triton_worker.py DIRECTORY

The sources are the installed ones of SGLang, and those that torch's inductor has generated, which
the recording holds. torch, and of SGLang all but the modules of the kernels, are replaced by
stand-ins. Of `kernels.json` this is read, beside what `stand_ins.install` reads:

    {"cuda_home": "/usr/local/cuda", "prefix": "/opt/venv",
     "triton": {"gpus": ["8.0", "9.0"], "recorded": [KERNEL, ...]}}

A kernel of a recording (`tests/gpu/triton_recorder.py` writes it) has these members:

    function    its name
    module      where it is found, or "" if it is generated
    source      the lines of its module if it is generated; else empty
    signature   the types of its arguments by name, as Triton writes them
    constants   [[PATH, VALUE], ...]: PATH is where it is among the arguments; VALUE may be a type
                of Triton, {"dtype": "bf16"}
    attributes  [[PATH, [[NAME, VALUE], ...]], ...]: what Triton may assume, e.g. divisibility by 16
    options     those that are not Triton's defaults, e.g. {"num_warps": 1}

The cache's directories are named by Triton's keys, which hold all that decides a kernel: one that
has another key in a container is not found there, and Triton compiles it as if there were none.
"""

import ctypes
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HELPERS = "torch._inductor.runtime"
"""The package of torch whose functions inductor's kernels call."""

USED = (f"{HELPERS}.triton_helpers", f"{HELPERS}.triton_compat", "triton")


def main(directory: Path) -> None:
    """Compile all recorded kernels for all GPUs, and what Triton writes in C to launch them."""
    wanted = json.loads((directory / "kernels.json").read_text(encoding="utf-8"))
    recorded = wanted["triton"]["recorded"]
    cache = Path(wanted["prefix"], "kernels", "triton")
    target = directory / "kernels" / cache.relative_to("/")
    stub = Path(wanted["cuda_home"], "lib64", "stubs", "libcuda.so")
    driver = _driver(stub, directory / "driver")
    os.environ |= {
        "CC": str(_compiler(directory / "cc")),
        "TRITON_CACHE_DIR": str(target),
        "TRITON_LIBCUDA_PATH": str(driver),
    }
    sys.path.append(str(directory))
    import stand_ins

    modules = {kernel["module"] for kernel in recorded} - {""}
    stand_ins.install(wanted, unused="sglang", used=(*USED, *sorted(modules)))
    helpers: Any = importlib.import_module(USED[0])
    helpers.set_driver_to_gpu = lambda: None
    for number, kernel in enumerate(recorded):
        function = _function(kernel, directory / f"recorded_{number}.py")
        for gpu in wanted["triton"]["gpus"]:
            _compile(kernel, function, int(gpu.replace(".", "")))
    for path in target.glob("*/*.so"):
        _strip(path)
    for path in target.glob("*/__grp__*.json"):
        _relocate(path, cache)


def _driver(stub: Path, directory: Path) -> Path:
    """Load the stub of the driver's library, and return a directory that has it by all its names.

    Triton loads the helpers that it has compiled, and they need a driver: its stub is enough.
    """
    ctypes.CDLL(str(stub))
    directory.mkdir()
    for name in ("libcuda.so", "libcuda.so.1"):  # releases of Triton link with one or the other
        (directory / name).symlink_to(stub)
    return directory


def _compiler(path: Path) -> Path:
    """Write a C compiler that keeps the random directory of Triton's source out of the library."""
    path.write_text('#!/bin/sh\nexec gcc "-fmacro-prefix-map=${1%/*}=." "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def _compile(kernel: dict[str, Any], function: Any, architecture: int) -> None:
    """Compile a kernel for one architecture, and the helpers in C of this Triton."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia import driver
    from triton.compiler import ASTSource

    constants = {tuple(path): _value(value) for path, value in kernel["constants"]}
    attributes = {tuple(path): value for path, value in kernel["attributes"]}
    signature = {name: _value(kind) for name, kind in kernel["signature"].items()}
    source = ASTSource(function, signature, constants, attributes)
    options = {name: _value(value) for name, value in kernel["options"].items()}
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    # Triton 3.7 has one launcher for all kernels, among its utilities. The key of 3.8's utilities
    # has the directory of the driver's library, so a container would not find them.
    if hasattr(driver, "compile_module_from_src"):
        driver.CudaUtils()
    if hasattr(driver, "make_launcher"):
        driver.CudaLauncher(compiled.src, compiled.metadata)


def _function(kernel: dict[str, Any], path: Path) -> Any:
    """Return Triton's function of a kernel; a generated module is written to a path first."""
    from triton.runtime.jit import JITFunction

    if kernel["source"]:
        path.write_text("\n".join(kernel["source"]), encoding="utf-8")
        os.utime(path, (0, 0))  # a cubin's table of lines has the time
        importlib.invalidate_caches()
    module = importlib.import_module(kernel["module"] or path.stem)
    found = getattr(module, kernel["function"])
    while not isinstance(found, JITFunction):  # a tuner or a heuristic around it
        found = found.fn
    return found


def _value(value: Any) -> Any:
    """Return a recorded value: JSON has neither types of Triton nor tuples."""
    if isinstance(value, dict):
        import triton.language

        return triton.language.dtype(value["dtype"])
    return tuple(map(_value, value)) if isinstance(value, list) else value


def _strip(path: Path) -> None:
    """Strip a library, in a new file: this process has the old one mapped."""
    stripped = path.with_suffix(".stripped")
    subprocess.run(["strip", "--strip-all", "-o", str(stripped), str(path)], check=True)
    stripped.replace(path)


def _relocate(path: Path, cache: Path) -> None:
    """Correct the paths of a kernel's files, which are those of the build."""
    group = json.loads(path.read_text(encoding="utf-8"))
    place = cache / path.parent.name
    group["child_paths"] = {name: str(place / name) for name in sorted(group["child_paths"])}
    path.write_text(json.dumps(group), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
