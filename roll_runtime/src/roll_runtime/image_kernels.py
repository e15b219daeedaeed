"""Kernels that the image's build compiled: where they are, and which there are.

They are in `<prefix>/kernels/<library>`, read-only, and are found before any cache of the user:
Triton's by `triton_cache`, SGLang's own by `jit_kernels`, those of FlashInfer 0.2.5 by
`flashinfer_kernels`, inductor's and DeepGEMM's by `caches`. Later FlashInfers find theirs
themselves, in their package.
"""

import sys
from pathlib import Path

DIRECTORY = Path(sys.prefix) / "kernels"
"""Of the image: `/opt/venv/kernels`."""

_KERNELS = {
    "triton": "triton/*/*.cubin",
    "triton helpers": "triton/*/*.so",
    "tvm-ffi": "tvm-ffi/*/*.so",
    "flashinfer": "flashinfer/*/*.so",
    "inductor": "inductor/fxgraph/*/*",
    "deep_gemm": "deep_gemm/**/*.cubin",
}


def directory(library: str) -> Path | None:
    """Return the directory of a library's kernels, or `None` where the image has none."""
    path = DIRECTORY / library
    return path if path.is_dir() else None


def found() -> dict[str, int]:
    """Return how many kernels the image has, by library; FlashInfer's own directory included."""
    counts = {name: len(list(DIRECTORY.glob(pattern))) for name, pattern in _KERNELS.items()}
    counts["flashinfer"] += sum(len(list(path.glob("*/*.so"))) for path in _flashinfer())
    return {name: count for name, count in counts.items() if count}


def _flashinfer() -> list[Path]:
    return [Path(folder) / "flashinfer" / "data" / "aot" for folder in dict.fromkeys(sys.path)]
