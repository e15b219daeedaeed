"""Reports of bundles, fetches, pushes, promotions and pulls."""

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
    """Return the document of a bundle."""
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
    """Return the text on a bundle: its parts, what is left out, and the command that unpacks it."""
    parts = len(written.bundle.parts)
    rows = [
        ("parts", str(parts), size(written.bytes)),
        ("left out", f"{len(written.left_out_layers)} layers, {len(written.recipes)} in part",
         size(written.left_out)),
    ]  # fmt: skip
    lines = [written.bundle.ref, table(rows, indent=2), f"  {written.bundle.manifest_digest}"]
    if written.left_out:
        lines.append("  left out: what the destination has, by the inventories and --since")
    if written.recipes:
        some = ", ".join(written.recipes[:3]) + (", …" if len(written.recipes) > 3 else "")
        lines.append(f"  in part: the destination rebuilds their tars from its own files: {some}")
    lines += [
        f"  send the files of {written.path}, in any order, and run there:",
        *unpack_commands(written.bundle),
    ]
    return printable.lines("\n".join(lines))


def unpack_commands(bundle: Bundle) -> list[str]:
    """Return the commands for a bundle's destination, which trust nothing that arrived.

    Both hashes come from this machine, by another way than the bundle: that of the program, and
    that of the image that it must unpack.
    """
    from images.unbundle.document import UNPACKER

    program = f"echo '{bundle.files[UNPACKER]}  {UNPACKER}' | sha256sum -c"
    return [
        f"  {program} &&",
        f"  python3 {UNPACKER} --rootfs DIR --digest {bundle.manifest_digest}",
    ]


def fetch_document(target: str, outcome: Outcome) -> dict[str, Any]:
    """Return the document of a fetch: what the download cache has for a target."""
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
    """Return the text on a fetch: by target, the files present before, fetched and missing."""
    rows = [("TARGET", "PRESENT", "FETCHED", "MISSING")]
    rows += [
        (target, _files(one.present), _files(one.fetched), _files(one.lacking))
        for target, one in outcomes.items()
    ]
    return table(rows)


def _files(files: Sequence[Artifact]) -> str:
    return f"{len(files)} files, {size(_amount(files)['bytes'])}" if files else "0"


def push_document(pushed: Pushed) -> dict[str, Any]:
    """Return the document of a push."""
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
    """Return the text on a push: blobs by state, seconds, and the reference to pull."""
    rows = []
    for state in ("sent", "mounted", "present"):
        sizes = [blob.size for blob in pushed.blobs if blob.state == state]
        rows.append((state, f"{len(sizes)} blobs", size(sum(sizes))))
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
    """Return the document of a promotion."""
    return {
        "target": promoted.candidate.target,
        "reference": promoted.reference,
        "tag": promoted.tag,
        "manifest_digest": promoted.candidate.digest,
        "before": promoted.before,
        "evidence": promoted.candidate.verdict,
    }


def promote_summary(promoted: Promoted) -> str:
    """Return the text on a promotion: what the tag named before and names now, and its proof."""
    if promoted.unchanged:
        before = "named it before"
    else:
        before = f"named {promoted.before} before" if promoted.before else "is new"
    return (
        f"{promoted.repository}:{promoted.tag}: {before}\n  {promoted.reference}\n"
        f"  proven: {promoted.candidate.verdict}"
    )


def pull_document(image: Image, layout: Path, fetched: Sequence[RemoteLayer]) -> dict[str, Any]:
    """Return the document of a pull: the layers that were fetched."""
    return {
        "target": image.ref,
        "manifest_digest": image.manifest_digest,
        "layout": str(layout),
        "fetched": [remote.blob.digest for remote in fetched],
        "bytes": sum(remote.blob.size for remote in fetched),
    }


def pull_summary(image: Image, layout: Path, fetched: Sequence[RemoteLayer]) -> str:
    """Return the text on a pull."""
    got = size(sum(remote.blob.size for remote in fetched))
    layers = f"fetched {len(fetched)} layers, {got}" if fetched else "no layer was missing"
    return f"{image.ref}: {layers}\n  oci:{layout}:{image.ref}"
