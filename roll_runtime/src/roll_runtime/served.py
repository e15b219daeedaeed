"""The GPUs that the image serves, and the refusal of an engine on another.

An image has machine code for the compute capabilities in `ROLL_RUNTIME_GPUS`. On any other GPU an
engine would compile and load for minutes, and fail at its first kernel with an error that does not
name the cause.
"""

import os
import re
from typing import Any

from roll_runtime import gpu, nvml
from roll_runtime.flashinfer_base import Environ

GPUS = "ROLL_RUNTIME_GPUS"
"""The capabilities, separated by spaces; empty or unset, every GPU is accepted."""

Capability = tuple[int, int]


def served(environ: Environ | None = None) -> tuple[Capability, ...]:
    """Return the compute capabilities that the image serves; none where that is not known.

    Raises:
        RuntimeError: the variable has anything else.
    """
    text = (os.environ if environ is None else environ).get(GPUS, "")
    words = text.replace(",", " ").split()
    if not all(re.fullmatch(r"[0-9]+\.[0-9]", word) for word in words):
        raise RuntimeError(
            f"{GPUS}={text} is no list of compute capabilities such as `8.0 9.0`; empty, it turns "
            "the check of the GPUs off."
        )
    return tuple((int(word[:-2]), int(word[-1])) for word in words)


def runs(capability: Capability, image: tuple[Capability, ...]) -> bool:
    """Return whether code for the image's GPUs runs on a GPU: that of X.y on X.z from y on."""
    return any(major == capability[0] and minor <= capability[1] for major, minor in image)


def refusal(name: str, capability: Capability, image: tuple[Capability, ...]) -> str:
    """Return why a GPU is not served, and what serves it."""
    major, minor = capability
    known = ", ".join(f"{one}.{other}" for one, other in image)
    return (
        f"{name} has compute capability {major}.{minor}, and this image serves {known}: "
        f"{remedy(capability)}"
    )


def remedy(capability: Capability) -> str:
    """Return which image serves a GPU."""
    major, minor = capability
    if major < 8:
        return "no image serves it, as SGLang's kernels are built for 8.0 and later"
    kind = "an image for CUDA 13" if major > 9 else "an image"
    return (
        f"use {kind} whose name has no -smNN, or build one for it "
        f"(python build.py --target ID --gpu {major}.{minor}); {GPUS}= (empty) turns this check off"
    )


def require_served(arguments: object = None) -> None:
    """Refuse an engine on a GPU that the image does not serve.

    NVML is asked first, which takes milliseconds: if all GPUs of the machine are served, nothing
    depends on which of them the engine uses. Else CUDA is asked in a child process, because NVML
    knows nothing of CUDA_VISIBLE_DEVICES. Without a driver nothing is refused: SGLang reports it.

    Args:
        arguments: the engine's, SGLang's `ServerArgs`.

    Raises:
        RuntimeError: one of its GPUs is not served.
    """
    image = served()
    if not image:
        return
    present = nvml.capabilities()
    if present is not None and all(runs(capability, image) for capability in present):
        return
    devices: list[dict[str, Any]] = gpu.ask_in_child().get("devices", [])
    for index in used(arguments, len(devices)):
        device = devices[index]
        capability = (device["capability"][0], device["capability"][1])
        if not runs(capability, image):
            raise RuntimeError(refusal(device["name"], capability, image))


def used(arguments: object, count: int) -> range:
    """Return the numbers of the visible GPUs that an engine uses on this node.

    Args:
        arguments: the engine's; an argument that is missing has SGLang's default.
        count: how many GPUs are visible.
    """

    def number(name: str, default: int) -> int:
        value = getattr(arguments, name, default)
        return value if isinstance(value, int) and value >= default else default

    ranks = number("tp_size", 1) * number("pp_size", 1)
    if getattr(arguments, "enable_dp_attention", False) is not True:
        ranks *= number("dp_size", 1)
    here = max(1, ranks // number("nnodes", 1))
    first, step = number("base_gpu_id", 0), number("gpu_id_step", 1)
    return range(first, min(count, first + here * step), step)
