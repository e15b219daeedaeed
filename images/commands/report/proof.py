"""The line at the end of a build that reports whether the image is proven.

The digest is the word of this machine; the evidence is that of a machine with a GPU, about one
digest. A build that comes to another one has made something that nobody has tried.
"""

from __future__ import annotations

from pathlib import Path

from images.attest import evidence, evidence_check
from images.errors import EvidenceError
from images.inputs.matrix.records import Target


def line(matrix: Path, target: Target, digest: str) -> str:
    """Return what the evidence says of an image: `proven on H200, 2026-11-26`.

    Args:
        matrix: the matrix file; the evidence is beside it.
        target: the target; `proven` asks when its inputs ended.
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
