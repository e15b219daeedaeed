"""Moves a tag to an image that is in the registry already, once a GPU has proven it.

Specification: OCI Distribution Spec 1.1, "Pushing manifests". A tag is moved by putting the very
bytes of the manifest under it: no store, no layer and no Docker take part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from images import evidence, pull
from images.errors import EvidenceError, RegistryError, UsageError
from images.image import DIGEST
from images.reference import Repository
from images.registry import Registry


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may get a tag.

    Attributes:
        target: what it is an image of.
        digest: of its manifest.
        proof: the words for its proof on a GPU, or why there is none.
    """

    target: str
    digest: str
    proof: str


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


def candidate(target: str, digest: str | None, kept: Path, *, unproven: bool) -> Candidate:
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
            f"{target}: no evidence in {kept} names an image",
            remedy=f"prove one: python build.py test --target {target} --gpu",
        )
    if not DIGEST.fullmatch(wanted):
        raise UsageError(
            f"{wanted}: is no digest", remedy="write sha256: and 64 hexadecimal digits"
        )
    verdict = evidence.judge(found, target, wanted)
    if not (verdict.proven or unproven):
        raise EvidenceError(
            f"{target}: {wanted} is not proven on a GPU: {verdict.text}, by {kept}",
            remedy=f"python build.py test --target {target} --gpu, or say --unproven",
        )
    return Candidate(target, wanted, verdict.text)


def promote(chosen: Candidate, registry: Registry, tag: str) -> Promoted:
    """Let a tag name the image; where it does already, nothing is written.

    Args:
        chosen: the image.
        registry: the repository that holds it.
        tag: the tag.

    Raises:
        RegistryError: the image is not there, or the registry refuses.
        IntegrityError: the registry gives other bytes than the digest says.
    """
    before = registry.manifest_digest(tag)
    done = Promoted(chosen, registry.repository, tag, before)
    if done.unchanged:
        return done
    manifest = pull.find_manifest(registry, chosen.digest)
    if manifest is None:
        raise RegistryError(
            f"{done.reference}: is not there, and {tag} stays what it was",
            remedy=f"push it first: python build.py push --target {chosen.target} "
            f"--to {registry.repository}:ANOTHER-TAG",
        )
    registry.put_manifest(tag, manifest.content).must_show(f"{registry.repository}:{tag}")
    return done
