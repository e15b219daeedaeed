"""Promotion: move a tag to an image that is in the registry already, once a GPU has proven it.

Specification: OCI Distribution Spec 1.1, "Pushing manifests". A tag is moved by putting the same
bytes of the manifest under it: no store, no layer and no Docker are involved. The protocol cannot
make the move depend on what the tag names, so that is checked right before and right after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images.attest import evidence, evidence_check, labels
from images.attest.evidence import Evidence
from images.attest.verdict import needs_roll
from images.errors import EvidenceError, IntegrityError, RegistryError, UsageError
from images.inputs.matrix.records import Target
from images.oci import reference
from images.oci.descriptor import DIGEST
from images.oci.reference import Repository
from images.oci.registry import download, manifests
from images.oci.registry.client import Registry
from images.util import untrusted_json

ROLL_SOURCE = "https://github.com/alibaba/ROLL"


@dataclass(frozen=True, slots=True)
class Proof:
    """The evidence of an image, and the labels that its row of the matrix determines.

    The image's manifest must agree with both.
    """

    evidence: Evidence
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may get a tag.

    Attributes:
        target: its target.
        digest: of its manifest.
        verdict: the evidence's verdict in one line.
        proof: None for an image without proof.
    """

    target: str
    digest: str
    verdict: str
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class Promoted:
    """The result of a promotion.

    Attributes:
        candidate: the image.
        repository: where it is.
        tag: the tag that was moved.
        before: the digest that the tag named before, None if there was no such tag.
    """

    candidate: Candidate
    repository: Repository
    tag: str
    before: str | None

    @property
    def unchanged(self) -> bool:
        """Whether the tag named this very image before."""
        return self.before == self.candidate.digest

    @property
    def reference(self) -> str:
        """Immutable reference: `REGISTRY/REPOSITORY@sha256:…`."""
        return f"{self.repository}@{self.candidate.digest}"


def candidate(
    target: Target, digest: str | None, evidence_path: Path, *, unproven: bool
) -> Candidate:
    """Return the image to promote, and its proof; no registry is contacted.

    Args:
        target: the target.
        digest: of the image's manifest; by default the one of the evidence.
        evidence_path: the file with the target's evidence.
        unproven: accept an image without proof.

    Raises:
        EvidenceError: it is not proven, or the evidence cannot be read.
        UsageError: the digest is malformed, or there is neither one nor evidence.
    """
    found = evidence.read(evidence_path)
    wanted = digest or (found.image.manifest_digest if found else None)
    if wanted is None:
        raise UsageError(
            f"{target.id}: no evidence in {evidence_path} names an image",
            remedy=f"prove one: python build.py test --target {target.id} --gpu",
        )
    if not DIGEST.fullmatch(wanted):
        raise UsageError(
            f"{wanted}: not a digest", remedy="write sha256: and 64 hexadecimal digits"
        )
    verdict = evidence_check.judge(found, target.id, wanted, target.exclude_newer)
    if not (verdict.proven or unproven):
        raise EvidenceError(
            f"{target.id}: {wanted} is not proven on a GPU: {verdict.text}, by {evidence_path}",
            remedy=f"python build.py test --target {target.id} --gpu{_more(target)}, or add "
            "--unproven",
        )
    proof = Proof(found, labels.versions(target)) if found and verdict.proven else None
    return Candidate(target.id, wanted, verdict.text, proof)


def _more(target: Target) -> str:
    needed = needs_roll(target.id)
    return f", and then with --roll CHECKOUT of {ROLL_SOURCE}" if needed else ""


def promote(chosen: Candidate, registry: Registry, tag: str) -> Promoted:
    """Move a tag to the image; nothing is written if it names the image already.

    Args:
        chosen: the image.
        registry: the repository that contains it.
        tag: the tag.

    Raises:
        UsageError: the tag must not be moved, and names another image.
        EvidenceError: the evidence is of another image than the one that is there.
        RegistryError: the image is not there, somebody else is moving the tag, or the registry
            refuses.
        IntegrityError: the registry sends bytes of another digest.
    """
    before = registry.manifest_digest(tag)
    done = Promoted(chosen, registry.repository, tag, before)
    if done.unchanged:
        return done
    reference.check_moves(registry.repository, tag, before)
    manifest = download.find_manifest(registry, chosen.digest)
    if manifest is None:
        raise RegistryError(
            f"{done.reference}: not there; {tag} was not moved",
            remedy=f"push it first: python build.py push --target {chosen.target} "
            f"--to {registry.repository}:ANOTHER-TAG",
        )
    if chosen.proof is not None:
        _check_manifest(chosen, chosen.proof, manifest.content)
    if (now := registry.manifest_digest(tag)) != before:
        raise RegistryError(
            f"{registry.repository}:{tag}: named {before or 'nothing'}; meanwhile somebody else "
            f"moved it to {now or 'nothing'}; it was left there",
            remedy="check whether that image is the newer one; if not, run the same command again",
        )
    pushed = manifests.put(registry, tag, manifest.content)
    pushed.require_shown(f"{registry.repository}:{tag}")
    return done


def _check_manifest(chosen: Candidate, proof: Proof, content: bytes) -> None:
    """Check an image's manifest against its evidence and its row of the matrix.

    Raises:
        EvidenceError: they are of different images.
        IntegrityError: the manifest is malformed.
    """
    try:
        document = untrusted_json.loads(content)
        faults = evidence_check.image_faults(proof.evidence, document, proof.versions)
    except (ValueError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{chosen.digest}: not a manifest of an image: {error}") from error
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        raise EvidenceError(
            f"{chosen.target}: the evidence is not of the image {chosen.digest}:{lines}",
            remedy=f"prove that image: python build.py test --target {chosen.target} --gpu",
        )
