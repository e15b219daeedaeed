"""Results as people and programs read them: tables of text, and JSON-able values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images.image import Image, Layer
from images.progress import size

if TYPE_CHECKING:
    from images.artifact import Artifact
    from images.bundle import Made
    from images.prefetch import Outcome
    from images.push import Pushed


def image_document(image: Image, layout: Path, reused: Sequence[bool] = ()) -> dict[str, Any]:
    """An image as one JSON object.

    Args:
        image: the image.
        layout: the store that holds it.
        reused: for each layer whether the store had it; empty when nothing was built.
    """
    layers = [_layer_document(layer) for layer in image.layers]
    for document, was_reused in zip(layers, reused, strict=False):
        document["reused"] = was_reused
    return {
        "target": image.ref,
        "manifest_digest": image.manifest_digest,
        "config_digest": image.config_digest,
        "layout": str(layout),
        "size": image.size,
        "created": image.created,
        "env": dict(image.env),
        "labels": dict(image.labels),
        "layers": layers,
    }


def _layer_document(layer: Layer) -> dict[str, Any]:
    return {
        "title": layer.title,
        "digest": layer.blob.digest,
        "diff_id": layer.blob.diff_id,
        "size": layer.blob.size,
        "media_type": layer.blob.media_type,
    }


def build_summary(
    image: Image, reused: Sequence[bool], seconds: Mapping[str, float], layout: Path
) -> str:
    """What a build did: layers made and reused, sizes, seconds per stage, and what comes next."""
    made = [layer for layer, old in zip(image.layers, reused, strict=True) if not old]
    kept = [layer for layer, old in zip(image.layers, reused, strict=True) if old]
    rows = [("layers made", str(len(made)), size(_total(made)))]
    rows.append(("layers reused", str(len(kept)), size(_total(kept))))
    rows.append(("image", f"{len(image.layers)} layers", size(image.size)))
    rows += [(stage, "", f"{spent:.2f} s") for stage, spent in seconds.items()]
    return (
        f"{image.ref}\n{table(rows, indent=2)}\n  {image.manifest_digest}\n"
        f"  oci:{layout}:{image.ref}"
    )


def inspection(image: Image, layout: Path) -> str:
    """An image as people read it: what it is, its environment, its layers."""
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
            image.ref,
            table(head, indent=2),
            "environment",
            table(env, indent=2),
            f"{len(layers)} layers, {size(image.size)} compressed, lowest first",
            table(layers, indent=2),
        ]
    )


def bundle_document(made: Made) -> dict[str, Any]:
    """A bundle as one JSON object."""
    return {
        "target": made.bundle.ref,
        "manifest_digest": made.bundle.manifest_digest,
        "out": str(made.path),
        "parts": [asdict(part) for part in made.bundle.parts],
        "bytes": made.bytes,
        "left_out": made.left_out,
        "left_out_layers": list(made.left_out_layers),
        "recipes": list(made.recipes),
    }


def bundle_summary(made: Made) -> str:
    """What a bundle holds, what it lacks and why, and the command for the destination."""
    parts = len(made.bundle.parts)
    rows = [
        ("parts", str(parts), size(made.bytes)),
        ("left out", f"{len(made.left_out_layers)} layers, {len(made.recipes)} in part",
         size(made.left_out)),
    ]  # fmt: skip
    lines = [made.bundle.ref, table(rows, indent=2), f"  {made.bundle.manifest_digest}"]
    if made.left_out:
        lines.append("  left out is what the inventories and --since say the destination has")
    if made.recipes:
        some = ", ".join(made.recipes[:3]) + (", …" if len(made.recipes) > 3 else "")
        lines.append(f"  in part: their tars are put together there from its files: {some}")
    lines.append(f"  send {made.path}, in any order, and there: python3 unpack.py --rootfs DIR")
    return "\n".join(lines)


def fetch_document(target: str, outcome: Outcome) -> dict[str, Any]:
    """What the download cache has for a target, as one JSON object."""
    return {
        "target": target,
        "cache": str(outcome.cache),
        "present": _amount(outcome.present),
        "fetched": _amount(outcome.fetched),
        "missing": [
            {**asdict(file), "damaged": file in outcome.damaged} for file in outcome.lacking
        ],
    }


def _amount(files: Sequence[Artifact]) -> dict[str, int]:
    return {"files": len(files), "bytes": sum(file.size for file in files)}


def fetch_summary(outcomes: Mapping[str, Outcome]) -> str:
    """What a fetch did: by target, the files that were there, have arrived, and are missing."""
    rows = [("TARGET", "THERE ALREADY", "FETCHED", "MISSING")]
    rows += [
        (target, _files(one.present), _files(one.fetched), _files(one.lacking))
        for target, one in outcomes.items()
    ]
    return table(rows)


def _files(files: Sequence[Artifact]) -> str:
    return f"{len(files)} files, {size(_amount(files)['bytes'])}" if files else "0"


def push_document(pushed: Pushed) -> dict[str, Any]:
    """A push as one JSON object."""
    return {
        "target": pushed.target,
        "reference": pushed.reference,
        "tag": pushed.tag,
        "manifest_digest": pushed.manifest_digest,
        "blobs": [
            {"digest": blob.digest, "size": blob.size, "state": blob.state} for blob in pushed.blobs
        ],
        "bytes_sent": pushed.bytes_sent,
    }


def push_summary(pushed: Pushed, seconds: Mapping[str, float]) -> str:
    """What a push did: blobs sent, mounted and there already, seconds, and how to pull it."""
    rows = []
    for state, title in (("sent", "sent"), ("mounted", "mounted"), ("present", "there already")):
        sizes = [blob.size for blob in pushed.blobs if blob.state == state]
        rows.append((title, f"{len(sizes)} blobs", size(sum(sizes))))
    rows.append(("bytes sent", "", size(pushed.bytes_sent)))
    rows += [(stage, "", f"{spent:.2f} s") for stage, spent in seconds.items()]
    named = f"{pushed.repository}:{pushed.tag}"
    head = f"{pushed.target} -> {named}{' (unchanged)' if pushed.unchanged else ''}"
    return f"{head}\n{table(rows, indent=2)}\n  {pushed.reference}"


def table(rows: Sequence[Sequence[str]], *, indent: int = 0) -> str:
    """Rows of text in aligned columns."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(" " * indent + line for line in lines)


def _total(layers: Sequence[Layer]) -> int:
    return sum(layer.blob.size for layer in layers)
