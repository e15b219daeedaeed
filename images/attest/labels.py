"""The labels of an image: its contents and its requirements."""

from __future__ import annotations

from images.content import runtime_wheel
from images.inputs.matrix import gpus
from images.inputs.matrix.records import Target

_MIN_DRIVER = {"12": "525.60.13", "13": "580.65.06"}
"""The oldest Linux driver that runs a CUDA major version, any minor one: NVIDIA's CUDA
Compatibility guide, "Minor Version Compatibility"."""


def versions(target: Target) -> dict[str, str]:
    """Return the labels that follow from a row of the matrix alone."""
    return {
        **({"roll.flavour": target.flavour} if target.flavour else {}),
        "roll.cuda.version": target.cuda,
        "roll.sglang.version": target.sglang,
        "roll.target": target.id,
        "roll.torch.version": target.torch,
    }


def of_target(target: Target, lock_digest: str) -> dict[str, str]:
    """Return the labels of an image, which registries show without a pull.

    Args:
        target: a row of the matrix.
        lock_digest: SHA-256, in hexadecimal, of the target's lock file.
    """
    cuda_major = target.cuda.partition(".")[0]
    return {
        "org.opencontainers.image.created": target.exclude_newer,
        "org.opencontainers.image.description": f"SGLang {target.sglang} rollout worker for ROLL, "
        f"torch {target.torch}, CUDA {target.cuda}",
        "org.opencontainers.image.title": target.id,
        "org.opencontainers.image.version": target.sglang,
        "roll.cuda.architectures": gpus.architectures(target.gpus),
        "roll.cuda.driver.min": _MIN_DRIVER[cuda_major],
        "roll.lock.sha256": lock_digest,
        "roll.runtime.version": runtime_wheel.version(),
        **versions(target),
    }
