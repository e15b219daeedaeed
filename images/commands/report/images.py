"""Reports of images: builds and inspections."""

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
    from images.inputs.matrix.records import Target
    from images.oci.referrer import Referrer
    from images.oci.store.remote_layers import Location


Elsewhere = Mapping[str, "Location"]
"""Where the layers are whose bytes the store does not have, by digest."""


def image_document(
    image: Image, layout: Path, reused: Sequence[bool] = (), elsewhere: Elsewhere | None = None
) -> dict[str, Any]:
    """Return the document of an image.

    Args:
        image: the image.
        layout: the path of its store.
        reused: whether each layer existed before; empty unless the image was built.
        elsewhere: where layers are that the store does not have; `complete` is false if the
            image has such.
    """
    locations = elsewhere or {}
    layers = [_layer_document(layer, locations) for layer in image.layers]
    for document, was_reused in zip(layers, reused, strict=False):
        document["reused"] = was_reused
    return {
        "target": image.ref,
        "manifest_digest": image.manifest_digest,
        "config_digest": image.config_digest,
        "layout": str(layout),
        "complete": not _away(image, locations),
        "size": image.size,
        "created": image.created,
        "env": dict(image.env),
        "labels": dict(image.labels),
        "layers": layers,
    }


def _layer_document(layer: Layer, elsewhere: Elsewhere) -> dict[str, Any]:
    remote = elsewhere.get(layer.blob.digest)
    return {
        "title": layer.title,
        "digest": layer.blob.digest,
        "diff_id": layer.blob.diff_id,
        "size": layer.blob.size,
        "media_type": layer.blob.media_type,
        "elsewhere": str(remote) if remote else None,
    }


def build_summary(
    image: Image,
    reused: Sequence[bool],
    seconds: Mapping[str, float],
    layout: Path,
    elsewhere: Elsewhere | None = None,
    filled: Filled | None = None,
) -> str:
    """Return the text on a build: layers made and reused, sizes, and seconds per stage."""
    away = _away(image, elsewhere or {})
    made = [layer for layer, old in zip(image.layers, reused, strict=True) if not old]
    kept = [layer for layer, old in zip(image.layers, reused, strict=True) if old]
    here = [layer for layer in kept if layer not in away]
    rows = [("layers made", str(len(made)), size(_total(made)))]
    rows.append(("layers reused", str(len(here)), size(_total(here))))
    if away:
        rows.append(("layers not fetched", str(len(away)), size(_total(away))))
    rows.append(("image", f"{len(image.layers)} layers", size(image.size)))
    if filled:
        rows.append(("cache", f"{filled.records} new records", f"{size(filled.bytes_sent)} sent"))
    rows += [(stage, "", f"{spent:.2f} s") for stage, spent in seconds.items()]
    return (
        f"{image.ref}\n{table(rows, indent=2)}\n  {image.manifest_digest}\n"
        f"  oci:{layout}:{image.ref}{_incomplete(image, elsewhere or {})}"
    )


def lacking_debs(target: Target, names: Sequence[str]) -> str:
    """Return a note on Debian packages of a flavour that a custom base lacks."""
    return (
        f"{target.id}: its base lacks Debian packages of the flavour {target.flavour!r}: "
        f"{' '.join(names)}\n"
        "  a custom base must contain such packages: install them in it if they are needed"
    )


def _incomplete(image: Image, elsewhere: Elsewhere) -> str:
    """Return a warning that the layout is incomplete for other tools, if it is."""
    away = _away(image, elsewhere)
    if not away:
        return ""
    locations = ", ".join(sorted({str(elsewhere[layer.blob.digest]) for layer in away}))
    return (
        f"\n  incomplete: {len(away)} layers are only in {locations}, and are fetched when needed;"
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
    """Return the text on an image: its names, environment, layers and attached documents."""
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
            table(layers, indent=2, right=(0, 1)) + _incomplete(image, elsewhere or {}),
            *_attached(attached),
        ]
    )


def put_by_others(names: Sequence[str]) -> str:
    """Return a note on images of the store that this builder did not make and does not show."""
    rows = [(name,) for name in names]
    return f"images of other programs, which are kept: skopeo inspect\n{table(rows, indent=2)}"


def _attached(referrers: Sequence[Referrer]) -> list[str]:
    rows = [(item.artifact_type, size(len(item.content)), item.digest[7:19]) for item in referrers]
    return ["attached", table(rows, indent=2, right=(1,))] if rows else []


def _total(layers: Sequence[Layer]) -> int:
    return sum(layer.blob.size for layer in layers)
