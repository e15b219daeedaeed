"""Moves a tag to an image that is in the registry already, once a GPU has proven it.

Specification: OCI Distribution Spec 1.1, "Pushing manifests". A tag is moved by putting the very
bytes of the manifest under it: no store, no layer and no Docker take part. The protocol has no way
to move a tag only if it names what one thinks: it is looked at again right before and right after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from images.attest import evidence, evidence_check, labels
from images.attest.evidence import Evidence
from images.attest.verdict import ROLL
from images.errors import EvidenceError, IntegrityError, RegistryError, UsageError
from images.inputs.matrix.target import Target
from images.oci import reference
from images.oci.descriptor import DIGEST
from images.oci.reference import Repository
from images.oci.registry import download, manifests
from images.oci.registry.client import Registry
from images.util import untrusted_json

ROLL_SOURCE = "https://github.com/alibaba/ROLL"


@dataclass(frozen=True, slots=True)
class Held:
    """The evidence of an image, and the labels that its row of the matrix gives it."""

    evidence: Evidence
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may get a tag.

    Attributes:
        target: what it is an image of.
        digest: of its manifest.
        proof: the words for its proof on a GPU, or why there is none.
        held: what its manifest is held against; None of an image without proof.
    """

    target: str
    digest: str
    proof: str
    held: Held | None = None


@dataclass(frozen=True, slots=True)
class Promoted:
    """What a promotion did.

    Attributes:
        candidate: the image.
        repository: where it is.
        tag: the tag that names it now.
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
        """What it can be pulled by, forever: `REGISTRY/REPOSITORY@sha256:…`."""
        return f"{self.repository}@{self.candidate.digest}"


def candidate(target: Target, digest: str | None, kept: Path, *, unproven: bool) -> Candidate:
    """The image to promote, and its proof; nothing is asked of a registry.

    Args:
        target: the target.
        digest: of the image's manifest; by default that which the evidence is of.
        kept: the file with the target's evidence.
        unproven: take one without proof as well.

    Raises:
        EvidenceError: it is not proven, or the evidence cannot be read.
        UsageError: the digest is none, or none is given and there is no evidence to name one.
    """
    found = evidence.read(kept)
    wanted = digest or (found.image.manifest_digest if found else None)
    if wanted is None:
        raise UsageError(
            f"{target.id}: no evidence in {kept} names an image",
            remedy=f"prove one: python build.py test --target {target.id} --gpu",
        )
    if not DIGEST.fullmatch(wanted):
        raise UsageError(
            f"{wanted}: is no digest", remedy="write sha256: and 64 hexadecimal digits"
        )
    verdict = evidence_check.judge(found, target.id, wanted, target.exclude_newer)
    if not (verdict.proven or unproven):
        raise EvidenceError(
            f"{target.id}: {wanted} is not proven on a GPU: {verdict.text}, by {kept}",
            remedy=f"python build.py test --target {target.id} --gpu{_more(target)}, or say "
            "--unproven",
        )
    held = Held(found, labels.versions(target)) if found and verdict.proven else None
    return Candidate(target.id, wanted, verdict.text, held)


def _more(target: Target) -> str:
    needed = target.id.endswith(ROLL)
    return f", and then with --roll CHECKOUT of {ROLL_SOURCE}" if needed else ""


def promote(chosen: Candidate, registry: Registry, tag: str) -> Promoted:
    """Let a tag name the image; where it does already, nothing is written.

    Args:
        chosen: the image.
        registry: the repository that holds it.
        tag: the tag.

    Raises:
        UsageError: the tag is one that never moves, and names another image.
        EvidenceError: the evidence is of another image than the one that is there.
        RegistryError: the image is not there, somebody else moves the tag at this moment, or the
            registry refuses.
        IntegrityError: the registry gives other bytes than the digest says.
    """
    before = registry.manifest_digest(tag)
    done = Promoted(chosen, registry.repository, tag, before)
    if done.unchanged:
        return done
    reference.check_moves(registry.repository, tag, before)
    manifest = download.find_manifest(registry, chosen.digest)
    if manifest is None:
        raise RegistryError(
            f"{done.reference}: is not there, and {tag} stays what it was",
            remedy=f"push it first: python build.py push --target {chosen.target} "
            f"--to {registry.repository}:ANOTHER-TAG",
        )
    if chosen.held is not None:
        _hold(chosen, chosen.held, manifest.content)
    if (now := registry.manifest_digest(tag)) != before:
        raise RegistryError(
            f"{registry.repository}:{tag}: named {before or 'nothing'}, and meanwhile somebody let "
            f"it name {now or 'nothing'}; it stays so",
            remedy="see whether that image is the newer one; if not, run the same command again",
        )
    put = manifests.put(registry, tag, manifest.content)
    put.require_shown(f"{registry.repository}:{tag}")
    return done


def _hold(chosen: Candidate, held: Held, content: bytes) -> None:
    """Hold an image's manifest against its evidence and its row of the matrix.

    Raises:
        EvidenceError: they are of different images.
        IntegrityError: the manifest is none.
    """
    try:
        document = untrusted_json.loads(content)
        faults = evidence_check.image_faults(held.evidence, document, held.versions)
    except (ValueError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{chosen.digest}: is no manifest of an image: {error}") from error
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        raise EvidenceError(
            f"{chosen.target}: the evidence is not of the image {chosen.digest}:{lines}",
            remedy=f"prove that image: python build.py test --target {chosen.target} --gpu",
        )
