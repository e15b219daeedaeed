"""Evidence that comes back from another machine: taken if it proves the image, or is unfinished."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from images.attest import evidence, evidence_check, verdict
from images.attest.evidence import FAILED, PASSED, Evidence
from images.errors import EvidenceError


def take(arrived: Path, path: Path, target: str, digest: str | None, since: str) -> None:
    """Add the evidence in a file to a target's; another image's is replaced.

    Unfinished evidence, of tests that ended before all had run, is taken where none has failed and
    the image is not proven already: the next kit goes on there.

    Args:
        arrived: the file that came back.
        path: the target's evidence, which need not exist.
        target: the target.
        digest: of its manifest in the store; None where it is not built.
        since: the end of the image's inputs, RFC 3339.

    Raises:
        EvidenceError: it proves nothing of the image, and nothing was changed.
    """
    found = evidence.read(arrived)
    if found is None:
        raise EvidenceError(f"{arrived}: not found")
    if digest is None:
        raise EvidenceError(
            f"{arrived}: the store has no image {target}",
            remedy=f"python build.py --target {target}",
        )
    tested = found.image.manifest_digest
    if found.image.target == target and tested != digest:
        raise EvidenceError(
            f"{arrived}: of another image: {tested}, and the store has {digest}",
            remedy=f"test the store's image: python build.py prove --target {target} --out DIR",
        )
    older = evidence.read(path)
    whole = _with_older(found, older)
    judged = evidence_check.judge(whole, target, digest, since)
    if not judged.proven and not (_is_unfinished(whole, target, digest) and _adds(whole, older)):
        raise EvidenceError(
            f"{arrived}: not taken, {target} is not proven by it: {judged.fault}",
            remedy="run prove.py again there, or correct the image; the log beside the file has "
            "the tests' output",
        )
    evidence.write(path, whole)


def _adds(whole: Evidence, older: Evidence | None) -> bool:
    """Return whether more tests of the image have passed than before."""
    if older is None or older.image != whole.image:
        return True
    return whole.count(PASSED) > older.count(PASSED)


def _is_unfinished(found: Evidence, target: str, digest: str) -> bool:
    """Return whether tests passed and none failed, and some were not run."""
    if found.count(FAILED) or not found.count(PASSED):
        return False
    return not verdict.judge_results(found, target, digest).proven


def _with_older(found: Evidence, old: Evidence | None) -> Evidence:
    """Return evidence with what older evidence of the same image has besides: machines, ROLL."""
    if old is None or old.image != found.image:
        return found
    proofs = {proof.gpus: proof for proof in old.proofs}
    for proof in found.proofs:
        earlier = proofs.get(proof.gpus)
        proofs[proof.gpus] = proof
        if proof.roll is None and earlier is not None:
            proofs[proof.gpus] = replace(proof, roll=earlier.roll)
    return replace(found, proofs=tuple(proofs[gpus] for gpus in sorted(proofs)))
