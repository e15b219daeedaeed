"""A target and its layers to an image: environment, labels, name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from images import runtime
from images.image import Image, Layer
from images.matrix_target import Target

if TYPE_CHECKING:
    from images.base_image import BaseImage

_MIN_DRIVER = {"12": "525.60.13", "13": "580.65.06"}
"""The oldest Linux driver that runs a CUDA major version, any minor one: NVIDIA's CUDA
Compatibility guide, "Minor Version Compatibility"."""

_ARCHITECTURES = {
    "12": "sm_80 sm_86 sm_89 sm_90",
    "13": "sm_80 sm_86 sm_89 sm_90 sm_100 sm_103 sm_120",
}
"""By CUDA major version, what both SGLang's kernels are built for and the compiler compiles for:
Ampere, Ada and Hopper, and from 13 on Blackwell."""


_BASE = "org.opencontainers.image.base."
_OURS = ("org.opencontainers.image.", "org.label-schema.", "roll.")
"""Beginnings of labels that speak of the very image that they are on."""


_NOT_TAKEN = re.compile(
    r"PYTHON.*|LD_LIBRARY_PATH|LD_PRELOAD|NCCL_.*|PYTORCH_(CUDA_)?ALLOC_CONF|.*_PROXY",
    re.IGNORECASE,
)
"""Of a base's environment: what would lead the image's Python, loader, engine or network astray. A
row that needs one of them sets it itself."""


def assemble(
    target: Target,
    lock_digest: str,
    layers: Sequence[Layer],
    base: BaseImage | None = None,
) -> Image:
    """The image of a target.

    Args:
        target: a row of the matrix.
        lock_digest: SHA-256, in hexadecimal, of the target's lock file.
        layers: lowest first; those of the base included.
        base: the own base that it stands on, if it is one.
    """
    env = target.environment()
    labels = _labels(target, lock_digest)
    if base is None:
        return Image(target.id, tuple(layers), env, labels, target.exclude_newer)
    return Image(
        target.id,
        tuple(layers),
        _merged_env(base.env, env),
        {**_inherited_labels(base), **labels},
        target.exclude_newer,
        base.history,
    )


def _merged_env(theirs: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Ours over theirs; of PATH ours first, then what only theirs has."""
    taken = {name: value for name, value in theirs.items() if not _NOT_TAKEN.fullmatch(name)}
    merged = {**taken, **ours}
    if "PATH" in theirs and "PATH" in ours:
        parts = [part for env in (ours, theirs) for part in env["PATH"].split(":") if part]
        merged["PATH"] = ":".join(dict.fromkeys(parts))
    return merged


def _inherited_labels(base: BaseImage) -> dict[str, str]:
    """Labels of the base that hold for ours as well, and which base it is (OCI's annotations)."""
    labels = {name: value for name, value in base.labels.items() if not name.startswith(_OURS)}
    labels[f"{_BASE}digest"] = base.manifest_digest
    if base.reference.repository is not None:  # a directory of the builder's is nobody's business
        labels[f"{_BASE}name"] = base.reference.name
    return labels


def version_labels(target: Target) -> dict[str, str]:
    """The labels that a row of the matrix alone decides about."""
    return {
        **({"roll.flavour": target.flavour} if target.flavour else {}),
        "roll.cuda.version": target.cuda,
        "roll.sglang.version": target.sglang,
        "roll.target": target.id,
        "roll.torch.version": target.torch,
    }


def _labels(target: Target, lock_digest: str) -> dict[str, str]:
    """What a registry shows of the image without a pull."""
    cuda_major = target.cuda.partition(".")[0]
    return {
        "org.opencontainers.image.created": target.exclude_newer,
        "org.opencontainers.image.description": f"SGLang {target.sglang} rollout worker for ROLL, "
        f"torch {target.torch}, CUDA {target.cuda}",
        "org.opencontainers.image.title": target.id,
        "org.opencontainers.image.version": target.sglang,
        "roll.cuda.architectures": _ARCHITECTURES[cuda_major],
        "roll.cuda.driver.min": _MIN_DRIVER[cuda_major],
        "roll.lock.sha256": lock_digest,
        "roll.runtime.version": runtime.version(),
        **version_labels(target),
    }
