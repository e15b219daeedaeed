"""The architectures that a kernel is compiled for, so that all GPUs of an image are served.

By NVIDIA's rule (CUDA C++ Programming Guide, "Binary Compatibility") machine code of compute
capability X.y runs on X.z with z >= y. From Hopper on FlashInfer compiles for targets with further
instructions: `9.0a` is for 9.0 alone, and `10.0f`, which CUDA has from 12.9 on, for a family, 10.y.
"""

from __future__ import annotations

from collections.abc import Iterable

from images.inputs.matrix.gpus import number

_PLAIN = 8
_SUFFIXES = {9: "a"}
_LATER = "f"


def compiled_for(gpus: Iterable[str]) -> tuple[str, ...]:
    """Return the targets to compile for, as FlashInfer and torch write them: `8.0`, `9.0a`.

    Args:
        gpus: the compute capabilities of the image's GPUs, as `8.6`.
    """
    lowest: dict[int, int] = {}
    for major, minor in sorted(map(number, gpus)):
        lowest.setdefault(major, minor)
    return tuple(
        f"{major}.{minor}{_SUFFIXES.get(major, _LATER) if major > _PLAIN else ''}"
        for major, minor in lowest.items()
    )
