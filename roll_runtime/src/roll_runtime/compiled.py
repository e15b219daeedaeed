"""Kernels that were compiled meanwhile: new files in the compilers' caches.

Triton, FlashInfer, DeepGEMM, TVM's FFI, SGLang, torch's inductor and its extensions all keep what
they compile as `.cubin` and `.so` files below a few directories.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_SUFFIXES = (".cubin", ".so")

_OWNERS = (
    ("deep_gemm", "deep_gemm"),
    ("flashinfer", "flashinfer"),
    ("tvm-ffi", "tvm-ffi"),
    ("sglang-jit", "sglang"),
    ("sglang/jit", "sglang"),
    ("torchinductor", "inductor"),
    ("torch_extensions", "torch extensions"),
    ("triton", "triton"),
)
"""A directory's name on the way to a file, and whose file it is then; the first that fits
counts."""

_SETTINGS = (
    "DG_JIT_CACHE_DIR",
    "FLASHINFER_WORKSPACE_BASE",
    "ROLL_RUNTIME_CACHE_DIR",
    "SGLANG_CACHE_DIR",
    "SGLANG_DG_CACHE_DIR",
    "SGLANG_JIT_CACHE_DIR",
    "SGL_DG_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_EXTENSIONS_DIR",
    "TRITON_CACHE_DIR",
    "TVM_FFI_CACHE_DIR",
)
"""Settings that move a cache out of HOME."""


def roots(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the directories that hold caches, those that are there."""
    home = Path(environ.get("HOME") or Path.home())
    folders = [home / ".cache", home / ".triton", home / ".deep_gemm"]
    folders += [Path(environ[name]) for name in _SETTINGS if environ.get(name)]
    temporary = Path(tempfile.gettempdir())
    folders += [*temporary.glob("torchinductor_*"), *temporary.glob("roll_runtime-*")]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def snapshot(environ: Mapping[str, str] = os.environ) -> dict[Path, int]:
    """Return every compiled file in the caches and when it was written, in nanoseconds."""
    found = {}
    for root in roots(environ):
        for path in _files(root):
            try:
                found[path] = path.stat().st_mtime_ns
            except OSError:  # a compiler's temporary file
                continue
    return found


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            if name.endswith(_SUFFIXES):
                yield Path(folder) / name


def since(before: Mapping[Path, int], after: Mapping[Path, int]) -> dict[str, dict[str, Any]]:
    """Return the kernels that were compiled between two snapshots.

    Returns:
        By compiler: `{"triton": {"count": 3, "names": ["_fwd_kernel", …]}}`; names are sorted,
        each once.
    """
    names: dict[str, list[str]] = {}
    for path, written in after.items():
        if before.get(path) != written:
            names.setdefault(_owner(path), []).append(_name(path))
    return {
        owner: {"count": len(names[owner]), "names": sorted(set(names[owner]))}
        for owner in sorted(names)
    }


def count(folder: Path) -> dict[str, int]:
    """Return how many compiled files a directory holds, by compiler."""
    owners = [_owner(path) for path in _files(folder)]
    return {owner: owners.count(owner) for owner in sorted(set(owners))}


def _owner(path: Path) -> str:
    folder = str(path.parent)
    return next((owner for part, owner in _OWNERS if part in folder), "other")


def _name(path: Path) -> str:
    # DeepGEMM: …/kernel.sm90_fp8_gemm_1d2d.<hash>/kernel.cubin; the others name the file itself.
    folder = path.parent.name.split(".")
    if path.stem == "kernel" and len(folder) > 2:
        return folder[1]
    return path.name.partition(".")[0]
