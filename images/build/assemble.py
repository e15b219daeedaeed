"""From a target and its layers to an image: environment, labels, name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from images.attest import labels as image_labels
from images.build.base import NOTHING, Inherited
from images.inputs.matrix.records import Target
from images.oci.image import Image, Layer


def assemble(
    target: Target,
    lock_digest: str,
    layers: Sequence[Layer],
    inherited: Inherited = NOTHING,
) -> Image:
    """Return the image of a target.

    Args:
        target: a row of the matrix.
        lock_digest: SHA-256, in hexadecimal, of the target's lock file.
        layers: lowest first; those of the base included.
        inherited: what it takes over from its base.
    """
    return Image(
        target.id,
        tuple(layers),
        _merged_env(inherited.env, target.environment()),
        {**inherited.labels, **image_labels.of_target(target, lock_digest)},
        target.exclude_newer,
        inherited.history,
    )


def _merged_env(base: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment over that of the base; of PATH its own first, then the base's."""
    merged = {**base, **own}
    if "PATH" in base and "PATH" in own:
        parts = [part for env in (own, base) for part in env["PATH"].split(":") if part]
        merged["PATH"] = ":".join(dict.fromkeys(parts))
    return merged
