"""The architectures that a kernel is compiled for, so that all GPUs of an image are served.

By NVIDIA's rule (CUDA C++ Programming Guide, "Binary Compatibility") machine code of compute
capability X.y runs on X.z with z >= y. That of an architecture-specific target (`9.0a`), which
FlashInfer compiles for from Hopper on, runs on that one capability.
"""

from __future__ import annotations

from collections.abc import Iterable

_SPECIFIC = 9
"""The major version from which on FlashInfer compiles for architecture-specific targets."""


def compiled_for(gpus: Iterable[str]) -> tuple[str, ...]:
    """Return the targets to compile for, as FlashInfer and torch write them: `8.0`, `9.0a`.

    Args:
        gpus: the compute capabilities of the image's GPUs, as `8.6`.
    """
    found: dict[int, list[int]] = {}
    for major, minor in sorted(_numbers(gpu) for gpu in gpus):
        found.setdefault(major, []).append(minor)
    return tuple(
        f"{major}.{minor}{'a' if major >= _SPECIFIC else ''}"
        for major, minors in found.items()
        for minor in (minors if major >= _SPECIFIC else minors[:1])
    )


def _numbers(gpu: str) -> tuple[int, int]:
    major, _, minor = gpu.partition(".")
    return int(major), int(minor)
