"""Small CUDA compilers: packages and wheels that hold what their layers are made of."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from images.inputs.compilers import BY_VERSION
from images.inputs.lock.artifact import Artifact
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.distribution import Distribution
from tests.unit.fake_debs import cached_deb

CUDA_H = """
#define CU_MEMHOSTALLOC_PORTABLE 0x01
#if defined(__CUDA_API_PER_THREAD_DEFAULT_STREAM)
    #define __CUDA_API_PTDS(api) api ## _ptds
    #define __CUDA_API_PTSZ(api) api ## _ptsz
#endif
#define cuMemAlloc                          cuMemAlloc_v2
#define cuMemcpy                            __CUDA_API_PTDS(cuMemcpy)
    #define cuLaunchKernel                  __CUDA_API_PTSZ(cuLaunchKernel)
CUresult CUDAAPI cuInit(unsigned int Flags);
CUresult CUDAAPI cuMemAlloc(CUdeviceptr *dptr, size_t bytesize);
"""


def cached(cache: Path, name: str, content: bytes) -> Distribution:
    """Write a wheel, or what is to be taken for one, into a download cache."""
    filename = f"{name}-1-py3-none-any.whl"
    artifact = Artifact(filename, hashlib.sha256(content).hexdigest(), len(content))
    place = cache / artifact.sha256
    place.mkdir(parents=True)
    (place / filename).write_bytes(content)
    return Distribution(name, "1", artifact)


def cached_wheel(cache: Path, name: str, members: Mapping[str, str]) -> Distribution:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for member, content in members.items():
            info = zipfile.ZipInfo(member)
            info.external_attr = (0o744 if "bin/" in member else 0o644) << 16  # as in NVIDIA's
            archive.writestr(info, content)
    return cached(cache, name, out.getvalue())


def fake_12(cache: Path) -> Toolkit:
    """Programs from a Debian package, headers from wheels."""
    programs = {place: place.encode() for place in BY_VERSION["12.4"].files}
    runtime = {
        "nvidia/__init__.py": "",
        "nvidia/cuda_runtime/include/__init__.py": "",
        "nvidia/cuda_runtime/include/cuda.h": CUDA_H,
        "nvidia/cuda_runtime/lib/libcudart.so.12": "a library",
    }
    return Toolkit(
        "12.4",
        (cached_deb(cache, "nvidia-cuda-toolkit", {**programs, "usr/bin/nvprune": b""}),),
        (
            cached_wheel(cache, "nvidia-cuda-runtime-cu12", runtime),
            cached_wheel(cache, "nvidia-cuda-cccl-cu12", {"nvidia/cuda_cccl/include/cub/a.h": ""}),
        ),
    )


def fake_13(cache: Path) -> Toolkit:
    """All from wheels; the runtime is the target's own."""
    files = BY_VERSION["13.0"].files
    nvcc = {name: name for name in files if "nvvm" not in name}
    nvvm = {name: name for name in files if "nvvm" in name}
    runtime = {
        "nvidia/cu13/include/cuda.h": CUDA_H,
        "nvidia/cu13/lib/libcudart.so.13": "a library",
        "nvidia/cu13/lib/libcudadevrt.a": "an archive",
    }
    return Toolkit(
        "13.0",
        (),
        (
            cached_wheel(cache, "nvidia-cuda-cccl", {"nvidia/cu13/include/cccl/cub/a.h": ""}),
            cached_wheel(cache, "nvidia-cuda-nvcc", {**nvcc, "nvidia/cu13/bin/nvprune": ""}),
            cached_wheel(cache, "nvidia-cuda-runtime", runtime),
            cached_wheel(cache, "nvidia-nvvm", {**nvvm, "nvidia/cu13/lib/libnvvm.so.4": ""}),
        ),
    )
