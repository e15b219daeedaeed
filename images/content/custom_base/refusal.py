"""The error for a custom base that cannot be used."""

from __future__ import annotations

from images.errors import MatrixError
from images.inputs.matrix.base_reference import BaseReference


def refusal(
    reference: BaseReference, reasons: list[str], target: str = "", system: str = ""
) -> MatrixError:
    """Return the error for a base that cannot be used.

    Args:
        reference: the base.
        reasons: why not.
        target: the target that it is for, if it depends on that.
        system: the base's own name for itself, if it is known.
    """
    lines = "".join(f"\n  {reason}" for reason in reasons)
    called = f" ({system})" if system else ""
    whose = f" of {target}" if target else ""
    return MatrixError(
        f"{reference}{called} cannot be the base{whose}:{lines}",
        remedy="put into the base what it lacks, or name another under `base:` in matrix.yaml",
    )
