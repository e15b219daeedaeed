"""Compiles modules of FlashInfer; run by the image's own Python in the base's root file system.

    python3.11 -s -P -B flashinfer_worker.py DIRECTORY

The root has the image's compiler, FlashInfer, and the headers that its kernels include, each at its
path in the image. DIRECTORY has `stand_ins.py` and `kernels.json`, of which this is read:

    {"torch": "2.8.0", "cxx11_abi": true, "cuda_home": "/usr/local/cuda",
     "site_packages": "/opt/venv/lib/python3.11/site-packages",
     "flashinfer": {"architectures": ["8.0", "9.0a"], "modules": ["norm", ...]}}

Each module becomes a library in DIRECTORY/kernels, by its path in the image, without its
symbol table: nothing reads the names of nvcc's temporary files in it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


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


MODULES: dict[str, Callable[[], Any]] = {
    "norm": _norm,
    "sampling": _sampling,
    "attention-bf16-128": _prefill,
}
"""The generator of each module, by its name in matrix.yaml."""

_COMPILER = 2 << 30
"""Bytes of memory for a compiler; nvcc starts one for each architecture of a source."""


def at_a_time(architectures: int, processors: int, memory: int) -> dict[str, str]:
    """Return FlashInfer's variables for as many compilers as there are processors and memory for.

    By default ninja takes more sources at a time than there are processors, and nvcc one
    architecture of each. FlashInfer 0.3.1 knows neither variable; its `norm` has few sources.

    Args:
        architectures: how many are compiled for.
        processors: of this process.
        memory: of the machine, in bytes.
    """
    compilers = max(1, min(processors, memory // _COMPILER))
    return {
        "FLASHINFER_NVCC_THREADS": str(min(compilers, architectures)),
        "MAX_JOBS": str(max(1, compilers // architectures)),
    }


def _compile(spec: Any, destination: Path) -> None:
    """Compile a module, strip it, and copy it."""
    spec.write_ninja()
    spec.build(verbose=False)
    library = destination / spec.name / f"{spec.name}.so"
    library.parent.mkdir(parents=True)
    shutil.copyfile(spec.jit_library_path, library)
    subprocess.run(["strip", "--strip-all", str(library)], check=True)


def main(directory: Path) -> None:
    """Compile the modules that `kernels.json` lists."""
    sys.path.append(str(directory))
    import stand_ins

    wanted = json.loads((directory / "kernels.json").read_text(encoding="utf-8"))
    architectures = wanted["flashinfer"]["architectures"]
    os.environ |= {  # earlier versions read torch's variable
        "FLASHINFER_CUDA_ARCH_LIST": " ".join(architectures),
        "FLASHINFER_WORKSPACE_BASE": str(directory / "workspace"),
        "TORCH_CUDA_ARCH_LIST": ";".join(architectures),
    }
    processors = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    os.environ |= at_a_time(len(architectures), processors, memory)
    stand_ins.install(wanted)
    aot = Path(wanted["site_packages"], "flashinfer/data/aot")
    for name in wanted["flashinfer"]["modules"]:
        _compile(MODULES[name](), directory / "kernels" / aot.relative_to("/"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
