"""What a container of an image would download at run time, as its lock shows it.

FlashInfer has ready-made kernels for Blackwell (machine code, and headers that describe it) in a
distribution of its own, flashinfer-cubin. What it does not find there it downloads when an engine
asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from images.inputs.lock.distribution import Distribution
from images.inputs.matrix import gpus
from images.inputs.matrix.records import Target

_FIRST_MAJOR = 10
"""Blackwell: FlashInfer compiles all that it has for the GPUs before it."""


def gpus_of(target: Target, distributions: Iterable[Distribution]) -> tuple[str, ...]:
    """Return the served GPUs for which FlashInfer would download kernels.

    Args:
        target: the target.
        distributions: those of its lock.
    """
    versions = {item.name: item.version for item in distributions}
    flashinfer = versions.get("flashinfer-python")
    if flashinfer is None or versions.get("flashinfer-cubin") == flashinfer:
        return ()
    return tuple(gpu for gpu in target.gpus if gpus.number(gpu)[0] >= _FIRST_MAJOR)


def message(target: Target, distributions: Iterable[Distribution]) -> str:
    """Return the line about a target that would download kernels, or ""."""
    touched = gpus_of(target, distributions)
    if not touched:
        return ""
    return (
        f"{target.id}: no flashinfer-cubin of FlashInfer's version in the lock: on compute "
        f"capability {', '.join(touched)} an engine may ask for kernels that the image does not "
        "have (docs/matrix.md#nothing-is-downloaded-at-run-time)"
    )
