"""Reports of plans, differences and shared sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from images import printable
from images.analysis.compare import KINDS, Amount, Change, Comparison
from images.analysis.sharing import Share, Sharing
from images.analysis.summary import ImageSummary, LayerSummary
from images.commands.report.printing import table, widths
from images.util.progress import size

_LARGEST = 12
"""Layers that the text lists; the JSON has all."""


# -- plan ------------------------------------------------------------------------------------------


def plan_document(planned: ImageSummary) -> dict[str, Any]:
    """Return the document of a plan."""
    return {
        "target": planned.name,
        "layers": [_layer_document(layer) for layer in planned.layers],
        "to_make": sum(layer.blob is None for layer in planned.layers),
        "bytes": planned.size,
    }


def _layer_document(layer: LayerSummary) -> dict[str, Any]:
    return {
        "title": layer.title,
        "digest": layer.blob.digest if layer.blob else None,
        "in_store": layer.blob is not None,
        "size": layer.size,
        "packages": [f"{item.name}=={item.version}" for item in layer.packages or ()],
    }


def plan_text(planned: ImageSummary) -> str:
    """Return the text of a plan: the layers of a build, lowest first, and which the store has."""
    rows = [
        (
            str(number),
            "in the store" if layer.blob else "to make from",
            size(layer.size),
            layer.title,
        )
        for number, layer in enumerate(planned.layers, 1)
    ]
    lacking = [layer for layer in planned.layers if layer.blob is None]
    held = [layer for layer in planned.layers if layer.blob]
    return "\n".join(
        [
            f"{printable.line(planned.name)}: {len(planned.layers)} layers, lowest first",
            table(rows, indent=2, right=(0, 2)),
            f"  in the store {len(held)} layers, {size(_total(held))}; to make {len(lacking)}, "
            f"from {size(_total(lacking))} of locked files",
        ]
    )


# -- diff ------------------------------------------------------------------------------------------


def diff_document(found: Comparison) -> dict[str, Any]:
    """Return the document of a comparison: the packages that differ, the layers to fetch."""
    return {
        "from": _summary_document(found.old),
        "to": _summary_document(found.new),
        "packages": {kind: _changes_document(found.changes, kind) for kind in KINDS},
        "layers": {
            "shared": _amount_document(found.shared),
            "common": _amount_document(found.common),
            "pull": _amount_document(found.pulled),
            "unpack": _amount_document(found.unpack),
        },
        "pull": [_layer_document(layer) for layer in found.pull],
    }


def _summary_document(image: ImageSummary) -> dict[str, Any]:
    return {
        "name": image.name,
        "manifest_digest": image.digest,
        "built": image.digest is not None,
        "renewed": image.renewed,
        "layers": len(image.layers),
        "bytes": image.size,
    }


def _amount_document(amount: Amount) -> dict[str, Any]:
    return {
        "layers": amount.layers,
        "bytes": amount.bytes,
        "unpacked_bytes": amount.unpacked,
        "not_made": amount.not_made,
    }


def _changes_document(changes: Iterable[Change], kind: str) -> list[dict[str, Any]]:
    return [
        {"name": change.name, "from": change.old, "to": change.new, "pull_bytes": change.pull}
        for change in changes
        if change.kind == kind
    ]


def diff_text(found: Comparison) -> str:
    """Return the text of a comparison: the packages that differ, then what moving costs."""
    rows = [_row(change) for change in found.changes]
    least = widths(rows) if rows else ()
    lines = [
        f"{_described(found.old)}\n-> {_described(found.new)}",
        *(_kind_text(found.changes, kind, least) for kind in KINDS),
        table(_cost(found), indent=2, right=(1, 2, 3)),
    ]
    if found.pulled.not_made:
        lines.append(
            f"  {found.pulled.not_made} of the layers to pull are not made: their bytes are those "
            "of the locked files"
        )
    return "\n".join(line for line in lines if line)


def _described(image: ImageSummary) -> str:
    what = f"{len(image.layers)} layers, {size(image.size)}"
    name = printable.line(image.name)
    if image.digest is None:
        return f"{name} (not built, by its locks: {what})"
    renewed = "; a build would make other layers today" if image.renewed else ""
    return f"{name} ({image.digest[:19]}, {what}{renewed})"


_WORDS = {"distribution": "distributions", "debian": "Debian packages", "toolkit": "toolkit"}


def _kind_text(changes: Sequence[Change], kind: str, least: Sequence[int]) -> str:
    here = [change for change in changes if change.kind == kind]
    if not here:
        return ""
    added = sum(change.old is None for change in here)
    removed = sum(change.new is None for change in here)
    counts = f"{added} added, {removed} removed, {len(here) - added - removed} changed"
    # What costs most first; what shares its layer with others has no size of its own.
    here.sort(key=lambda change: (-(change.pull or 0), change.name))
    rows = table([_row(item) for item in here], indent=2, right=(3,), least=least)
    return f"{_WORDS[kind]}: {counts}\n{rows}"


def _row(change: Change) -> tuple[str, str, str, str]:
    if change.old == change.new:
        versions = (change.old or "", "-> other bytes")
    else:
        versions = (change.old or "(new)", f"-> {change.new}" if change.new else "-> (gone)")
    return (change.name, *versions, size(change.pull) if change.pull is not None else "")


def _cost(found: Comparison) -> list[tuple[str, str, str, str]]:
    return [
        ("to pull", *_amount_row(found.pulled)),
        ("shared", *_amount_row(found.shared)),
        ("  not even unpacked again", *_amount_row(found.common)),
        ("to unpack", *_amount_row(found.unpack)),
    ]


def _amount_row(amount: Amount) -> tuple[str, str, str]:
    unpacked = "" if amount.unpacked is None else f"{size(amount.unpacked)} unpacked"
    return f"{amount.layers} layers", size(amount.bytes), unpacked


# -- sizes -----------------------------------------------------------------------------------------


def sizes_document(found: Sharing) -> dict[str, Any]:
    """Sizes over a matrix as one JSON object."""
    return {
        "targets": [
            {
                "target": row.id,
                "manifest_digest": row.image.digest if row.image else None,
                "layers": len(row.image.layers) if row.image else None,
                "bytes": row.image.size if row.image else None,
                "bytes_alone": row.alone if row.image else None,
                "file_bytes": row.files,
                "budget": row.budget,
            }
            for row in found.rows
        ],
        "images": {
            **_share_document(found.images),
            "whole_wheels": found.whole_wheels,
            "over_whole_wheels": found.over,
        },
        "files": _share_document(found.files),
        "largest": [
            {
                "title": common.layer.title,
                "digest": common.layer.identity,
                "size": common.layer.size,
                "images": common.images,
            }
            for common in found.largest
        ],
    }


def _share_document(share: Share) -> dict[str, Any]:
    return {"sum": share.sum, "union": share.union, "ratio": share.ratio}


def sizes_text(found: Sharing) -> str:
    """Sizes over a matrix as people read them."""
    head = ("TARGET", "LAYERS", "IMAGE", "IN NO OTHER", "BUDGET", "WHEELS")
    rows = [
        (
            row.id,
            str(len(row.image.layers)) if row.image else "not built",
            size(row.image.size) if row.image else "",
            size(row.alone) if row.image else "",
            size(row.budget) if row.budget else "",
            size(row.files) if row.files is not None else "no lock",
        )
        for row in found.rows
    ]
    totals = [
        ("sum", "", size(found.images.sum), "", "", size(found.files.sum)),
        ("union", "", size(found.images.union), "", "", size(found.files.union)),
        ("union / sum", "", _percent(found.images.ratio), "", "", _percent(found.files.ratio)),
    ]
    largest = [
        (size(common.layer.size), f"in {common.images}", common.layer.title)
        for common in found.largest[:_LARGEST]
    ]
    lines = [table([head, *rows, *totals], right=range(1, len(head)))]
    if largest:
        lines.append(
            f"each wheel once, whatever shares its layer: {size(found.whole_wheels)}; the union is "
            f"{_percent(found.over)} more"
        )
        lines.append(f"largest layers\n{table(largest, indent=2, right=(0,))}")
    return "\n".join(lines)


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def _total(layers: Iterable[LayerSummary]) -> int:
    return sum(layer.size for layer in layers)
