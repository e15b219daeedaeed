"""The CUDA compilers that exist, and the sources of each: data alone.

A new version takes a record here, its lock (`python build.py lock`) and a line in matrix.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from images import format_numbers


@dataclass(frozen=True, slots=True)
class CompilerSources:
    """The sources of the compiler of one CUDA version.

    Attributes:
        version: `MAJOR.MINOR`.
        debs: exact versions of Debian packages, by name.
        wheels: exact requirements; their headers go into the compiler's `include`.
        files: the destinations of the compiler's own files below /usr/local/cuda, by their path in
            a package or wheel.
        profile: whether nvcc's settings are the project's
            (`images/content/cuda/recipe/<version>/nvcc.profile`); else they are among `files`.
        runtime: the one of `wheels` that every target's lock has as well, of the same minor
            version: it is read here and linked there, not copied. "" if the target's is another
            version, so that its headers do not fit the compiler.
        format: the number of what is made of the same files.
        glibc: the minor version of glibc 2 that the programs of `debs` need; 0 if there are none.
            What wheels need is in their names.
        gpus: the compute capabilities that it compiles for and SGLang's kernels are built for, in
            order: what an image serves unless its row names fewer.
    """

    version: str
    debs: Mapping[str, str]
    wheels: tuple[str, ...]
    files: Mapping[str, str]
    profile: bool
    runtime: str
    format: str
    glibc: int
    gpus: tuple[str, ...]


# No single source has all of CUDA 12: Debian packages the programs, NVIDIA's wheels contain the
# headers. It is the last CUDA 12 that Debian has; its binaries need glibc 2.34, bookworm has 2.36.
_CUDA_12 = CompilerSources(
    version="12.4",
    debs={"nvidia-cuda-toolkit": "12.4.131~12.4.1-2"},
    wheels=(
        "nvidia-cuda-nvcc-cu12==12.4.131",  # include/crt of the same compiler
        "nvidia-cuda-runtime-cu12==12.4.127",  # cuda_runtime.h, cuda_fp16.h … that fit the compiler
        "nvidia-cuda-cccl-cu12==12.5.39.post1",  # cub, thrust, libcu++; 12.4.127 lacks nv/target
    ),
    files={
        "usr/lib/nvidia-cuda-toolkit/bin/nvcc": "bin/nvcc",
        "usr/lib/nvidia-cuda-toolkit/bin/cicc": "nvvm/bin/cicc",
        "usr/lib/nvidia-cuda-toolkit/bin/crt/link.stub": "bin/crt/link.stub",
        "usr/lib/nvidia-cuda-toolkit/bin/crt/prelink.stub": "bin/crt/prelink.stub",
        "usr/lib/nvidia-cuda-toolkit/libdevice/libdevice.10.bc": "nvvm/libdevice/libdevice.10.bc",
        "usr/bin/__nvcc_device_query": "bin/__nvcc_device_query",  # nvcc -arch=native
        "usr/bin/bin2c": "bin/bin2c",
        "usr/bin/cudafe++": "bin/cudafe++",
        "usr/bin/cuobjdump": "bin/cuobjdump",  # DeepGEMM reads a kernel's symbols with it
        "usr/bin/fatbinary": "bin/fatbinary",
        "usr/bin/nvdisasm": "bin/nvdisasm",  # cuobjdump calls it
        "usr/bin/nvlink": "bin/nvlink",
        "usr/bin/ptxas": "bin/ptxas",
        "usr/share/doc/nvidia-cuda-toolkit/copyright": "EULA.txt",
    },
    profile=True,
    runtime="",
    format=format_numbers.CUDA_COMPILER_12_4,
    glibc=34,
    gpus=("8.0", "8.6", "8.9", "9.0"),  # Ampere, Ada, Hopper; Blackwell needs 12.8's compiler
)

# NVIDIA's wheels for CUDA 13 contain the whole compiler, laid out as below /usr/local/cuda. The
# versions are those of cuda-toolkit 13.0.2, from which torch takes its libraries.
_CUDA_13 = CompilerSources(
    version="13.0",
    debs={},
    wheels=(
        "nvidia-cuda-nvcc==13.0.88",
        "nvidia-nvvm==13.0.88",  # cicc, libdevice
        "nvidia-cuda-crt==13.0.88",
        "nvidia-cuda-cccl==13.0.85",
        "nvidia-cuda-runtime==13.0.96",
        # They read the output of any earlier compiler; 13.2 is the first version on the index.
        "nvidia-cuda-cuobjdump==13.2.51",
        "nvidia-cuda-nvdisasm==13.2.51",
    ),
    files={
        "nvidia_cuda_nvcc-13.0.88.dist-info/licenses/License.txt": "EULA.txt",
        **{
            f"nvidia/cu13/{path}": path
            for path in (
                "bin/nvcc",
                "bin/nvcc.profile",
                "bin/crt/link.stub",
                "bin/crt/prelink.stub",
                "bin/__nvcc_device_query",
                "bin/bin2c",
                "bin/cudafe++",
                "bin/cuobjdump",
                "bin/fatbinary",
                "bin/nvdisasm",
                "bin/nvlink",
                "bin/ptxas",
                "nvvm/bin/cicc",
                "nvvm/libdevice/libdevice.10.bc",
            )
        },
    },
    profile=False,
    runtime="nvidia-cuda-runtime",
    format=format_numbers.CUDA_COMPILER_13_0,
    glibc=0,
    gpus=("8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1"),
)

BY_VERSION: Mapping[str, CompilerSources] = {item.version: item for item in (_CUDA_12, _CUDA_13)}


def majors() -> tuple[str, ...]:
    """Return the CUDA major versions that have a compiler."""
    return tuple(dict.fromkeys(map(_major, BY_VERSION)))


def versions(major: str) -> list[str]:
    """Return the versions of the compilers for a CUDA major version."""
    return [version for version in BY_VERSION if _major(version) == major]


def _major(version: str) -> str:
    return version.partition(".")[0]
