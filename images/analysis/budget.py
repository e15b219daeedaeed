"""The check of an image against the size that the matrix allows it."""

from __future__ import annotations

from images.errors import BudgetError
from images.inputs.matrix.records import Target
from images.oci.image import Image
from images.oci.store.store import Store
from images.util.progress import size


def check(target: Target, image: Image, store: Store) -> None:
    """Refuse an image that is larger than its target's budget.

    A budget is of zstd, the default. An image in gzip is larger with the same in it, and passes.

    Args:
        target: the row of the matrix.
        image: what was made of it.
        store: that its layers are in, and perhaps an earlier image of that name.

    Raises:
        BudgetError: it is larger; the message names what grew most, or what is largest.
    """
    budget = target.budget
    in_gzip = any(layer.blob.media_type.endswith("gzip") for layer in image.layers)
    if budget is None or in_gzip or image.size <= budget.size:
        return
    from images.analysis import growth  # only for an image that is too large

    over = size(image.size - budget.size)
    listed = "".join(f"\n    {line}" for line in growth.blamed(target.id, image, store))
    raise BudgetError(
        f"{target.id}: {growth.exact(image.size)} are {over} more than its budget of "
        f"{growth.exact(budget.size)} ({budget.why}){listed}",
        remedy=f"take out or pin what grew, or raise `budget` of {target.id} in matrix.yaml and "
        "say why; the layers that were made are kept",
    )
