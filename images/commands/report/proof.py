"""The line at the end of a build that reports whether the image is proven.

The digest was computed on this machine; the evidence was recorded on a machine with a GPU, for one
digest. A build with another digest has made an image that has not been tested.
"""

from __future__ import annotations

from pathlib import Path

from images.attest import evidence, evidence_check
from images.errors import EvidenceError
from images.inputs.matrix.records import Target


def line(matrix: Path, target: Target, digest: str) -> str:
    """Return the line on the evidence of an image: `proven on H200, 2026-11-26`.

    Args:
        matrix: the matrix file; the evidence is beside it.
        target: the target; evidence older than its `exclude_newer` proves nothing.
        digest: of the image's manifest.
    """
    path = evidence.path_of(matrix, target.id)
    name = f"{path.parent.name}/{path.name}"
    try:
        found = evidence.read(path)
    except EvidenceError:
        return f"not proven ({name} cannot be read)"
    if found is None:
        return f"not proven (there is no {name})"
    verdict = evidence_check.judge(found, target.id, digest, target.exclude_newer)
    if verdict.proven:
        return f"proven on {verdict.runs}"
    if found.image.target == target.id and found.image.manifest_digest != digest:
        return f"not proven ({name} is of {found.image.manifest_digest})"
    return f"not proven ({name}: {verdict.fault})"
