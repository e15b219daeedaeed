"""The kernels of an image, and what decides their bytes: known from matrix and locks alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images import format_numbers
from images.content import runtime_wheel
from images.content.cuda import toolkit
from images.content.debian import rootfs
from images.content.kernels import architectures
from images.inputs.lock.cuda_lock import Toolkit
from images.inputs.lock.deb import Deb
from images.inputs.matrix import rules
from images.inputs.matrix.records import Kernel
from images.util import sha256

FLASHINFER = "flashinfer-python"
SGLANG = "sglang"
TORCH = "torch"

HELPERS = frozenset(
    {
        "apache-tvm-ffi",
        "filelock",
        "jinja2",
        "markupsafe",
        "ninja",
        "packaging",
        "typing-extensions",
    }
)
"""Distributions whose code runs when kernels are compiled: FlashInfer imports them."""

OF_FLASHINFER = Path(__file__).with_name("flashinfer_worker.py")
"""The program that compiles FlashInfer's modules."""

OF_SGLANG = Path(__file__).with_name("sglang_worker.py")
"""The program that compiles SGLang's own kernels."""

NVCC = Path(__file__).with_name("nvcc.sh")
_STAND_INS = Path(__file__).with_name("stand_ins.py")
_NAMING = ("image_kernels.py", "jit.py", "jit_kernels.py")
"""The modules of roll_runtime that name SGLang's kernels, and correct one."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of an image.

    Attributes:
        flashinfer: the names of FlashInfer's modules, as in matrix.yaml.
        architectures: the targets that they are compiled for (`architectures.compiled_for`).
        sglang: compute capabilities, each with the names of those of SGLang's own kernels that are
            compiled for it, without their prefix.
    """

    flashinfer: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    sglang: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """What each module is compiled for, by its name in matrix.yaml."""
        found = dict.fromkeys(self.flashinfer, self.architectures)
        for gpu, names in self.sglang:
            for name in names:
                module = f"{rules.OF_SGLANG}{name}"
                found[module] = (*found.get(module, ()), gpu)
        return found

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules by their names in matrix.yaml."""
        return tuple(self.targets)

    @property
    def count(self) -> int:
        """How many times a module is compiled."""
        return len(self.flashinfer) + sum(len(names) for _, names in self.sglang)


def of(wanted: Sequence[Kernel], served: Sequence[str]) -> Kernels | None:
    """Return the kernels of a target, or None if there are none.

    Args:
        wanted: the modules that matrix.yaml names for it.
        served: the compute capabilities of the GPUs that its image serves. One of SGLang's own
            kernels that is for other GPUs alone is not compiled.
    """
    modules = tuple(kernel.module for kernel in wanted if not rules.is_of_sglang(kernel.module))
    own = [kernel for kernel in wanted if rules.is_of_sglang(kernel.module)]
    by_gpu = ((gpu, _named(own, gpu)) for gpu in served)
    sglang = tuple((gpu, names) for gpu, names in by_gpu if names)
    if not (modules or sglang):
        return None
    return Kernels(modules, architectures.compiled_for(served) if modules else (), sglang)


def _named(kernels: Sequence[Kernel], gpu: str) -> tuple[str, ...]:
    """Return the names of the kernels that are compiled for a GPU."""
    found = (kernel.module for kernel in kernels if not kernel.gpus or gpu in kernel.gpus)
    return tuple(module.removeprefix(rules.OF_SGLANG) for module in found)


def notes(kernels: Kernels | None, name: str) -> dict[str, str]:
    """Return what is compiled of a distribution's kernels, for an SBOM; empty if nothing is."""
    targets = kernels.targets if kernels else {}
    if name not in (FLASHINFER, SGLANG):
        return {}
    found = (
        f"{module} ({', '.join(compiled)})"
        for module, compiled in targets.items()
        if rules.is_of_sglang(module) == (name == SGLANG)
    )
    text = ", ".join(found)
    return {"kernels": text} if text else {}


def parameters(kernels: Kernels | None) -> dict[str, Any]:
    """Return what each module of kernels is compiled for, for the provenance of an image."""
    if kernels is None:
        return {}
    return {"kernels": {module: list(compiled) for module, compiled in kernels.targets.items()}}


def key(kernels: Kernels, tools: Toolkit, base_debs: Sequence[Deb]) -> str:
    """Return the digest of all inputs of the kernels but the wheels; hexadecimal SHA-256."""
    return sha256.of_json(
        {
            "base": rootfs.key(base_debs),
            "flashinfer": [*kernels.architectures, *kernels.flashinfer],
            "format": format_numbers.KERNELS,
            "programs": [sha256.of_file(path) for path in (*programs(kernels), NVCC)],
            "sglang": [[gpu, *names] for gpu, names in kernels.sglang],
            "toolkit": toolkit.key(tools),
        }
    )


def programs(kernels: Kernels) -> list[Path]:
    """Return the project's own files that run when kernels are compiled."""
    naming = [runtime_wheel.SOURCE / "src/roll_runtime" / name for name in _NAMING]
    return [
        _STAND_INS,
        *((OF_FLASHINFER,) if kernels.flashinfer else ()),
        *((OF_SGLANG, *naming) if kernels.sglang else ()),
    ]
