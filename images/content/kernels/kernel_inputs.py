"""The kernels of an image, and what decides their bytes: known from matrix and locks alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
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
from images.inputs.matrix.records import Kernel, Target
from images.util import sha256

FLASHINFER = "flashinfer-python"
SGLANG = "sglang"
TORCH = "torch"

TRITON = "triton"

HELPERS = frozenset(
    {
        "apache-tvm-ffi",
        "filelock",
        "jinja2",
        "markupsafe",
        "msgspec",
        "ninja",
        "packaging",
        "typing-extensions",
    }
)
"""Distributions whose code runs when kernels are compiled: FlashInfer and SGLang import them."""

OF_FLASHINFER = Path(__file__).with_name("flashinfer_worker.py")
"""The program that compiles FlashInfer's modules."""

OF_SGLANG = Path(__file__).with_name("sglang_worker.py")
"""The program that compiles SGLang's own kernels."""

OF_TRITON = Path(__file__).with_name("triton_worker.py")
"""The program that compiles the kernels in Triton."""

RECORDINGS = Path(__file__).with_name("recordings")
"""The recordings of which kernels an engine asks Triton and SGLang's own compiler for."""

NVCC = Path(__file__).with_name("nvcc.sh")
CXX = Path(__file__).with_name("cxx.sh")
_STAND_INS = Path(__file__).with_name("stand_ins.py")
NAMING = ("image_kernels.py", "jit.py", "jit_kernels.py", "marks.py", "whole_files.py")
"""The modules of roll_runtime that name SGLang's kernels, and correct one."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of an image.

    Attributes:
        flashinfer: the names of FlashInfer's modules, as in matrix.yaml.
        architectures: the targets that they are compiled for (`architectures.compiled_for`).
        sglang: compute capabilities, each with the names of those of SGLang's own kernels that are
            compiled for it, without their prefix.
        triton: the compute capabilities that the recorded kernels in Triton are compiled for.
        recording: the file that lists those and SGLang's recorded ones, if there are any.
    """

    flashinfer: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    sglang: tuple[tuple[str, tuple[str, ...]], ...] = ()
    triton: tuple[str, ...] = ()
    recording: Path | None = None

    @property
    def targets(self) -> dict[str, tuple[str, ...]]:
        """What each module is compiled for, by its name in matrix.yaml."""
        found = dict.fromkeys(self.flashinfer, self.architectures)
        for gpu, names in self.sglang:
            for name in names:
                module = f"{rules.OF_SGLANG}{name}"
                found[module] = (*found.get(module, ()), gpu)
        if self.triton:
            found[rules.TRITON] = self.triton
        return found

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules by their names in matrix.yaml."""
        return tuple(self.targets)

    @property
    def count(self) -> int:
        """How many times a module is compiled; those in Triton take as long as one."""
        own = sum(len(names) for _, names in self.sglang)
        return len(self.flashinfer) + own + bool(self.triton)


def of(target: Target) -> Kernels | None:
    """Return the kernels of a target, or None if there are none.

    Those that are for other GPUs alone than its image serves are not compiled, and those in Triton
    and `sglang-recorded` where a recording lists any.
    """
    served = target.gpus
    recorded = recording(target.sglang, target.torch)
    unrecorded = {rules.TRITON, rules.RECORDED} - recorded_modules(recorded)
    kernels = [kernel for kernel in target.kernels if kernel.module not in unrecorded]
    modules = [kernel.module for kernel in kernels]
    flashinfer = tuple(filter(rules.is_of_flashinfer, modules))
    sglang = [(gpu, tuple(_named(kernels, gpu))) for gpu in served]
    triton = tuple(
        gpu
        for kernel in kernels
        for gpu in served
        if kernel.module == rules.TRITON and _is_for(kernel, gpu)
    )
    found = Kernels(
        flashinfer,
        architectures.compiled_for(served) if flashinfer else (),
        tuple((gpu, names) for gpu, names in sglang if names),
        triton,
        recorded if {rules.TRITON, rules.RECORDED} & set(modules) else None,
    )
    return found if found.targets else None


def recording(sglang: str, torch: str) -> Path:
    """Return the path of the recording for the versions of SGLang and torch."""
    return RECORDINGS / f"sglang-{sglang}-torch-{torch}.json"


@cache
def recorded_modules(path: Path) -> frozenset[str]:
    """Return the modules of matrix.yaml that a recording lists kernels of; none without a file."""
    if not path.is_file():
        return frozenset()
    owners = {"triton": rules.TRITON, "sglang": rules.RECORDED}
    return frozenset(owners[owner] for owner, kernels in read(path).items() if kernels)


def read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the kernels of a recording, by the compiler that was asked for them."""
    found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _named(kernels: Sequence[Kernel], gpu: str) -> Iterator[str]:
    """Yield the names of SGLang's own kernels that are compiled for a GPU."""
    for kernel in kernels:
        if rules.is_of_sglang(kernel.module) and _is_for(kernel, gpu):
            yield kernel.module.removeprefix(rules.OF_SGLANG)


def _is_for(kernel: Kernel, gpu: str) -> bool:
    return not kernel.gpus or gpu in kernel.gpus


def notes(kernels: Kernels | None, name: str) -> dict[str, str]:
    """Return what is compiled of a distribution's kernels, for an SBOM; empty if nothing is."""
    targets = kernels.targets if kernels else {}
    if name not in (FLASHINFER, SGLANG):
        return {}
    found = (
        f"{module} ({', '.join(compiled)})"
        for module, compiled in targets.items()
        if rules.is_of_flashinfer(module) == (name == FLASHINFER)
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
            "programs": [sha256.of_file(path) for path in (*programs(kernels), NVCC, CXX)],
            "sglang": [[gpu, *names] for gpu, names in kernels.sglang],
            "toolkit": toolkit.key(tools),
            "recording": sha256.of_file(kernels.recording) if kernels.recording else "",
            "triton": list(kernels.triton),
        }
    )


def programs(kernels: Kernels) -> list[Path]:
    """Return the project's own files that run when kernels are compiled."""
    naming = [runtime_wheel.SOURCE / "src/roll_runtime" / name for name in NAMING]
    return [
        _STAND_INS,
        *((OF_FLASHINFER,) if kernels.flashinfer else ()),
        *((OF_SGLANG, *naming) if kernels.sglang else ()),
        *((OF_TRITON,) if kernels.triton else ()),
    ]
