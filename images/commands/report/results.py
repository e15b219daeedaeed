"""Results as people and programs read them: tables of text, and JSON-able values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import printable
from images.oci.image import Image, Layer
from images.util.progress import size

if TYPE_CHECKING:
    from images.build.layer_cache import Filled
    from images.build.prefetch import Outcome
    from images.export.bundle.bundle import Made
    from images.export.promote import Promoted
    from images.export.push.push import Pushed
    from images.inputs.lock.artifact import Artifact
    from images.inputs.matrix.records import Target
    from images.oci.referrer import Referrer
    from images.oci.store.remote_layers import Place, Remote
    from images.unbundle.document import Bundle


Elsewhere = Mapping[str, "Place"]
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


def pull_document(image: Image, layout: Path, fetched: Sequence[Remote]) -> dict[str, Any]:
    """What was fetched of an image, as one JSON object."""
    return {
        "target": image.ref,
        "manifest_digest": image.manifest_digest,
        "layout": str(layout),
        "fetched": [remote.blob.digest for remote in fetched],
        "bytes": sum(remote.blob.size for remote in fetched),
    }


def pull_summary(image: Image, layout: Path, fetched: Sequence[Remote]) -> str:
    """What was fetched of an image, and what it is good for now."""
    got = size(sum(remote.blob.size for remote in fetched))
    layers = f"fetched {len(fetched)} layers, {got}" if fetched else "nothing lies elsewhere"
    return f"{image.ref}: {layers}\n  oci:{layout}:{image.ref}"


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


def bundle_document(made: Made) -> dict[str, Any]:
    """A bundle as one JSON object."""
    return {
        "target": made.bundle.ref,
        "manifest_digest": made.bundle.manifest_digest,
        "out": str(made.path),
        "parts": [asdict(part) for part in made.bundle.parts],
        "bytes": made.bytes,
        "unpack": " ".join(line.strip() for line in unpack_commands(made.bundle)),
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
    lines += [f"  send {made.path}, in any order, and there:", *unpack_commands(made.bundle)]
    return printable.lines("\n".join(lines))


def unpack_commands(bundle: Bundle) -> list[str]:
    """What is typed at a bundle's destination, where nothing that arrived need be believed.

    Both hashes come from here, by another way than the bundle: one of the program, and one of the
    image that it must lay out.
    """
    from images.unbundle.document import UNPACKER

    program = f"echo '{bundle.files[UNPACKER]}  {UNPACKER}' | sha256sum -c"
    return [
        f"  {program} &&",
        f"  python3 {UNPACKER} --rootfs DIR --digest {bundle.manifest_digest}",
    ]


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
        "before": pushed.before,
        "blobs": [
            {"digest": blob.digest, "size": blob.size, "state": blob.state} for blob in pushed.blobs
        ],
        "attached": [asdict(item) for item in pushed.attached],
        "bytes_sent": pushed.bytes_sent,
        "notes": list(pushed.notes),
    }


def push_summary(pushed: Pushed, seconds: Mapping[str, float]) -> str:
    """What a push did: blobs sent, mounted and there already, seconds, and how to pull it."""
    rows = []
    for state, title in (("sent", "sent"), ("mounted", "mounted"), ("present", "there already")):
        sizes = [blob.size for blob in pushed.blobs if blob.state == state]
        rows.append((title, f"{len(sizes)} blobs", size(sum(sizes))))
    rows += [("attached", item.artifact_type, item.state) for item in pushed.attached]
    if not pushed.attached:
        rows.append(("attached", "nothing", ""))
    rows.append(("bytes sent", "", size(pushed.bytes_sent)))
    rows += [(stage, "", f"{spent:.2f} s") for stage, spent in seconds.items()]
    named = f"{pushed.repository}:{pushed.tag}"
    moved = f" (moved; it named {pushed.before})" if pushed.before else ""
    head = f"{pushed.target} -> {named}{' (unchanged)' if pushed.unchanged else moved}"
    return f"{head}\n{table(rows, indent=2)}\n  {pushed.reference}"


def promote_document(promoted: Promoted) -> dict[str, Any]:
    """A promotion as one JSON object."""
    return {
        "target": promoted.candidate.target,
        "reference": promoted.reference,
        "tag": promoted.tag,
        "manifest_digest": promoted.candidate.digest,
        "before": promoted.before,
        "evidence": promoted.candidate.proof,
    }


def promote_summary(promoted: Promoted) -> str:
    """What a tag names now, what it named before, and on which GPU that was proven."""
    if promoted.unchanged:
        before = "named it before"
    else:
        before = f"named {promoted.before} before" if promoted.before else "is new"
    return (
        f"{promoted.repository}:{promoted.tag}: {before}\n  {promoted.reference}\n"
        f"  proven: {promoted.candidate.proof}"
    )


def table(
    rows: Sequence[Sequence[str]],
    *,
    indent: int = 0,
    right: Collection[int] = (),
    least: Sequence[int] = (),
) -> str:
    """Rows of text in aligned columns; a cell may be what somebody else wrote.

    Args:
        rows: each with as many cells.
        indent: spaces before each row.
        right: the numbers of columns that are aligned at their right.
        least: widths that the columns have at least, so that several tables look like one.
    """
    if not rows:
        return ""
    rows = [[printable.line(cell) for cell in row] for row in rows]
    found = widths(rows)
    wide = [max(pair) for pair in zip(found, least or found, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(wide[column]) if column in right else cell.ljust(wide[column])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in rows
    )
    return "\n".join(" " * indent + line for line in lines)


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _total(layers: Sequence[Layer]) -> int:
    return sum(layer.blob.size for layer in layers)
