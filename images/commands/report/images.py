"""Images as people and programs read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import printable
from images.commands.report.printing import table
from images.oci.image import Image, Layer
from images.util.progress import size

if TYPE_CHECKING:
    from images.build.layer_cache import Filled
    from images.inputs.matrix.target import Target
    from images.oci.referrer import Referrer
    from images.oci.store.remote_layers import Location


Elsewhere = Mapping[str, "Location"]
"""Where layers lie whose bytes the store does not have, by digest."""


def image_document(
    image: Image, layout: Path, reused: Sequence[bool] = (), elsewhere: Elsewhere | None = None
) -> dict[str, Any]:
    """An image as one JSON object.

    Args:
        image: the image.
        layout: the store that holds it.
        reused: for each layer whether it was there before; empty when nothing was built.
        elsewhere: where its other layers lie; `complete` is false if there are any.
    """
    places = elsewhere or {}
    layers = [_layer_document(layer, places) for layer in image.layers]
    for document, was_reused in zip(layers, reused, strict=False):
        document["reused"] = was_reused
    return {
        "target": image.ref,
        "manifest_digest": image.manifest_digest,
        "config_digest": image.config_digest,
        "layout": str(layout),
        "complete": not _away(image, places),
        "size": image.size,
        "created": image.created,
        "env": dict(image.env),
        "labels": dict(image.labels),
        "layers": layers,
    }


def _layer_document(layer: Layer, elsewhere: Elsewhere) -> dict[str, Any]:
    place = elsewhere.get(layer.blob.digest)
    return {
        "title": layer.title,
        "digest": layer.blob.digest,
        "diff_id": layer.blob.diff_id,
        "size": layer.blob.size,
        "media_type": layer.blob.media_type,
        "elsewhere": str(place) if place else None,
    }


def build_summary(
    image: Image,
    reused: Sequence[bool],
    seconds: Mapping[str, float],
    layout: Path,
    elsewhere: Elsewhere | None = None,
    filled: Filled | None = None,
) -> str:
    """What a build did: layers made and reused, sizes, seconds per stage, and what comes next."""
    away = _away(image, elsewhere or {})
    made = [layer for layer, old in zip(image.layers, reused, strict=True) if not old]
    kept = [layer for layer, old in zip(image.layers, reused, strict=True) if old]
    here = [layer for layer in kept if layer not in away]
    rows = [("layers made", str(len(made)), size(_total(made)))]
    rows.append(("layers reused", str(len(here)), size(_total(here))))
    if away:
        rows.append(("layers elsewhere", str(len(away)), size(_total(away))))
    rows.append(("image", f"{len(image.layers)} layers", size(image.size)))
    if filled:
        rows.append(("cache", f"{filled.records} new records", f"{size(filled.bytes_sent)} sent"))
    rows += [(stage, "", f"{spent:.2f} s") for stage, spent in seconds.items()]
    return (
        f"{image.ref}\n{table(rows, indent=2)}\n  {image.manifest_digest}\n"
        f"  oci:{layout}:{image.ref}{_not_whole(image, elsewhere or {})}"
    )


def lacking_debs(target: Target, names: Sequence[str]) -> str:
    """A note on Debian packages of a flavour that an own base lacks."""
    return (
        f"{target.id}: its base lacks Debian packages of the flavour {target.flavour!r}: "
        f"{' '.join(names)}\n"
        "  an own base brings such packages itself: install them in it if they are needed"
    )


def _not_whole(image: Image, elsewhere: Elsewhere) -> str:
    """A word for those who would open the layout with another program."""
    away = _away(image, elsewhere)
    if not away:
        return ""
    places = ", ".join(sorted({str(elsewhere[layer.blob.digest]) for layer in away}))
    return (
        f"\n  not whole: {len(away)} layers lie in {places} and come when they are needed;"
        f"\n  for skopeo and podman: python build.py pull --target {image.ref}"
    )


def _away(image: Image, elsewhere: Elsewhere) -> list[Layer]:
    return [layer for layer in image.layers if layer.blob.digest in elsewhere]


def inspection(
    image: Image,
    layout: Path,
    elsewhere: Elsewhere | None = None,
    attached: Sequence[Referrer] = (),
) -> str:
    """An image as people read it: what it is, its environment, its layers, what lies beside it."""
    head = [("manifest", image.manifest_digest), ("config", image.config_digest)]
    head += [("layout", f"oci:{layout}:{image.ref}"), ("created", image.created)]
    head += [(name, value) for name, value in image.labels.items() if name.startswith("roll.")]
    layers = [
        (str(number), size(layer.blob.size), layer.blob.digest[7:19], layer.title)
        for number, layer in enumerate(image.layers, 1)
    ]
    env = [(name, value) for name, value in image.env.items()]
    return "\n".join(
        [
            printable.line(image.ref),
            table(head, indent=2),
            "environment",
            table(env, indent=2),
            f"{len(layers)} layers, {size(image.size)} compressed, lowest first",
            table(layers, indent=2, right=(0, 1)) + _not_whole(image, elsewhere or {}),
            *_attached(attached),
        ]
    )


def put_by_others(names: Sequence[str]) -> str:
    """What of a store is not shown, since this builder did not make it."""
    rows = [(name,) for name in names]
    return f"put here by other programs, and kept: skopeo inspect\n{table(rows, indent=2)}"


def _attached(referrers: Sequence[Referrer]) -> list[str]:
    rows = [(item.artifact_type, size(len(item.content)), item.digest[7:19]) for item in referrers]
    return ["about it", table(rows, indent=2, right=(1,))] if rows else []


def _total(layers: Sequence[Layer]) -> int:
    return sum(layer.blob.size for layer in layers)
