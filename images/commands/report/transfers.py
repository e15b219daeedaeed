"""Bundles, fetches, pushes, promotions and pulls as people and programs read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images import printable
from images.commands.report.printing import table
from images.oci.image import Image
from images.util.progress import size

if TYPE_CHECKING:
    from images.build.prefetch import Outcome
    from images.export.bundle.bundle import WrittenBundle
    from images.export.promote import Promoted
    from images.export.push.push import Pushed
    from images.inputs.lock.artifact import Artifact
    from images.oci.store.remote_layers import RemoteLayer
    from images.unbundle.document import Bundle


def bundle_document(written: WrittenBundle) -> dict[str, Any]:
    """A bundle as one JSON object."""
    return {
        "target": written.bundle.ref,
        "manifest_digest": written.bundle.manifest_digest,
        "out": str(written.path),
        "parts": [asdict(part) for part in written.bundle.parts],
        "bytes": written.bytes,
        "unpack": " ".join(line.strip() for line in unpack_commands(written.bundle)),
        "left_out": written.left_out,
        "left_out_layers": list(written.left_out_layers),
        "recipes": list(written.recipes),
    }


def bundle_summary(written: WrittenBundle) -> str:
    """What a bundle holds, what it lacks and why, and the command for the destination."""
    parts = len(written.bundle.parts)
    rows = [
        ("parts", str(parts), size(written.bytes)),
        ("left out", f"{len(written.left_out_layers)} layers, {len(written.recipes)} in part",
         size(written.left_out)),
    ]  # fmt: skip
    lines = [written.bundle.ref, table(rows, indent=2), f"  {written.bundle.manifest_digest}"]
    if written.left_out:
        lines.append("  left out is what the inventories and --since say the destination has")
    if written.recipes:
        some = ", ".join(written.recipes[:3]) + (", …" if len(written.recipes) > 3 else "")
        lines.append(f"  in part: their tars are put together there from its files: {some}")
    lines += [f"  send {written.path}, in any order, and there:", *unpack_commands(written.bundle)]
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


def pull_document(image: Image, layout: Path, fetched: Sequence[RemoteLayer]) -> dict[str, Any]:
    """What was fetched of an image, as one JSON object."""
    return {
        "target": image.ref,
        "manifest_digest": image.manifest_digest,
        "layout": str(layout),
        "fetched": [remote.blob.digest for remote in fetched],
        "bytes": sum(remote.blob.size for remote in fetched),
    }


def pull_summary(image: Image, layout: Path, fetched: Sequence[RemoteLayer]) -> str:
    """What was fetched of an image, and what it is good for now."""
    got = size(sum(remote.blob.size for remote in fetched))
    layers = f"fetched {len(fetched)} layers, {got}" if fetched else "nothing lies elsewhere"
    return f"{image.ref}: {layers}\n  oci:{layout}:{image.ref}"
