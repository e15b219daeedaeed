"""Links to CUDA libraries: all that compilers and loaders look for, from the wheels alone."""

from __future__ import annotations

import posixpath

import pytest

from images.content.cuda import links
from images.errors import IntegrityError
from images.inputs.compilers import BY_VERSION
from images.inputs.lock import cuda_lock

WHEELS = {
    "nvidia-cublas-cu12": [
        "nvidia/__init__.py",
        "nvidia/cublas/include/__init__.py",
        "nvidia/cublas/include/cublas_v2.h",
        "nvidia/cublas/lib/libcublas.so.12",
        "nvidia_cublas_cu12-12.8.4.1.dist-info/METADATA",
    ],
    "nvidia-cuda-runtime-cu12": [
        "nvidia/cuda_runtime/include/cuda_runtime.h",
        "nvidia/cuda_runtime/lib/libcudart.so.12",
    ],
    "nvidia-cuda-cupti-cu12": ["nvidia/cuda_cupti/lib/libcheckpoint.so"],
    "nvidia-cuda-nvrtc-cu12": ["nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.8"],
    "nvidia-nvtx-cu12": ["nvidia/nvtx/include/nvtx3/nvToolsExt.h"],
    "nvidia-cusparselt-cu12": ["cusparselt/lib/libcusparseLt.so.0"],  # as in torch 2.6's
    "nvidia-cutlass-dsl": ["nvidia_cutlass_dsl/lib/libcuda_dialect_runtime.so"],
}
OWN = {"nvidia-cuda-runtime-cu12", "nvidia-cuda-nvcc-cu12", "nvidia-cuda-cccl-cu12"}

WHEELS_13 = {
    "nvidia-cublas": ["nvidia/cu13/include/cublas_v2.h", "nvidia/cu13/lib/libcublas.so.13"],
    "nvidia-cuda-runtime": [
        "nvidia/cu13/include/cuda_runtime.h",
        "nvidia/cu13/lib/libcudadevrt.a",
        "nvidia/cu13/lib/libcudart.so.13",
        "nvidia/cu13/lib/libcudart_static.a",
        "nvidia_cuda_runtime-13.0.96.dist-info/METADATA",
    ],
    "nvidia-cudnn-cu13": ["nvidia/cudnn/include/cudnn.h", "nvidia/cudnn/lib/libcudnn.so.9"],
    # SGLang 0.5.18 and later bring a compiler of another version for their kernel languages.
    "nvidia-cuda-cccl": ["nvidia/cu13/include/cccl/cub/cub.cuh"],
    "nvidia-nvvm": ["nvidia/cu13/include/nvvm.h", "nvidia/cu13/lib/libnvvm.so.4"],
}
OWN_13 = {
    "nvidia-cuda-cccl",
    "nvidia-cuda-crt",
    "nvidia-cuda-cuobjdump",
    "nvidia-cuda-nvcc",
    "nvidia-cuda-nvdisasm",
    "nvidia-nvvm",
}


def test_libraries_and_headers_are_linked_from_their_wheels() -> None:
    found = list(links.entries(WHEELS, OWN))
    assert [entry.path for entry in found] == [
        "usr/lib/x86_64-linux-gnu/libcublas.so.12",
        "usr/lib/x86_64-linux-gnu/libcudart.so.12",
        "usr/lib/x86_64-linux-gnu/libcusparseLt.so.0",
        "usr/lib/x86_64-linux-gnu/libnvrtc-builtins.so.12.8",
        "usr/local/cuda/include/cublas_v2.h",
        "usr/local/cuda/include/nvtx3/nvToolsExt.h",
        "usr/local/cuda/lib64/libcheckpoint.so",
        "usr/local/cuda/lib64/libcublas.so",
        "usr/local/cuda/lib64/libcublas.so.12",
        "usr/local/cuda/lib64/libcudart.so",
        "usr/local/cuda/lib64/libcudart.so.12",
        "usr/local/cuda/lib64/libcusparseLt.so",
        "usr/local/cuda/lib64/libcusparseLt.so.0",
        "usr/local/cuda/lib64/libnvrtc-builtins.so",
        "usr/local/cuda/lib64/libnvrtc-builtins.so.12.8",
    ]
    assert {entry.kind for entry in found} == {"symlink"}


def test_cuda_13_has_one_directory_for_all() -> None:
    """Of the runtime, which the compiler does not have, headers and device runtime are linked."""
    assert [entry.path for entry in links.entries(WHEELS_13, OWN_13)] == [
        "usr/lib/x86_64-linux-gnu/libcublas.so.13",
        "usr/lib/x86_64-linux-gnu/libcudart.so.13",
        "usr/lib/x86_64-linux-gnu/libcudnn.so.9",
        "usr/lib/x86_64-linux-gnu/libnvvm.so.4",
        "usr/local/cuda/include/cublas_v2.h",
        "usr/local/cuda/include/cuda_runtime.h",
        "usr/local/cuda/include/cudnn.h",
        "usr/local/cuda/lib64/libcublas.so",
        "usr/local/cuda/lib64/libcublas.so.13",
        "usr/local/cuda/lib64/libcudadevrt.a",
        "usr/local/cuda/lib64/libcudart.so",
        "usr/local/cuda/lib64/libcudart.so.13",
        "usr/local/cuda/lib64/libcudnn.so",
        "usr/local/cuda/lib64/libcudnn.so.9",
        "usr/local/cuda/lib64/libnvvm.so",
        "usr/local/cuda/lib64/libnvvm.so.4",
    ]


@pytest.mark.parametrize("version", BY_VERSION)
def test_headers_of_the_compilers_own_wheels_are_not_linked(version: str) -> None:
    own = {wheel.name for wheel in cuda_lock.read(version).header_wheels}
    assert own == {"12.4": OWN, "13.0": OWN_13}[version]


@pytest.mark.parametrize("wheels", ["WHEELS", "WHEELS_13"])
def test_links_lead_to_the_wheels_files(wheels: str) -> None:
    given: dict[str, list[str]] = globals()[wheels]
    members = {member for wheel in given.values() for member in wheel}
    for entry in links.entries(given, OWN | OWN_13):
        place = posixpath.dirname(entry.path)
        target = posixpath.normpath(posixpath.join(place, entry.target))
        assert target.removeprefix("opt/venv/lib/python3.11/site-packages/") in members


def test_a_library_from_two_wheels_is_refused() -> None:
    twice = {**WHEELS, "nvidia-cublas": ["nvidia/cu13/lib/libcublas.so.12"]}
    with pytest.raises(IntegrityError, match=r"libcublas\.so\.12"):
        list(links.entries(twice, OWN))
