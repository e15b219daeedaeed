"""A target and its layers to an image: environment, labels, name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from images.attest import labels as image_labels
from images.inputs.matrix.records import Target
from images.oci.image import Image, Layer

if TYPE_CHECKING:
    from images.content.custom_base.base_image import BaseImage

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
    labels = image_labels.of_target(target, lock_digest)
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
