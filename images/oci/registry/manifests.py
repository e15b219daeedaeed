"""A manifest into a repository: tried again where two clients meet, and confirmed with patience.

Specification: OCI Distribution Spec 1.1, "Pushing Manifests". A registry whose storage is
replicated may show a manifest, or what a tag names, some seconds after it took it: what counts is
that it took it, and the digest that it gave then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.errors import RegistryError
from images.http.session import succeeded
from images.oci.descriptor import MANIFEST_TYPE, digest_of
from images.oci.registry import refusals
from images.oci.registry.client import Registry

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True, slots=True)
class Put:
    """A manifest that a registry took.

    Attributes:
        digest: of its bytes.
        shown: the digest that the registry shows for its name in the end; None where it shows
            nothing yet, or may not be asked.
        lists: whether the registry lists it by itself with what it is about.
    """

    digest: str
    shown: str | None
    lists: bool

    def must_show(self, name: str) -> None:
        """See that nothing else took its place at once.

        Args:
            name: the repository with the tag, for the message.

        Raises:
            RegistryError: the registry shows another manifest.
        """
        if self.shown not in (None, self.digest):
            raise RegistryError(
                f"{name}: was let name {self.digest}, and names {self.shown}",
                remedy="does somebody else move that tag at the same time? See which of the two it "
                "should be; if it is this one, run the same command again",
            )


def put(
    registry: Registry,
    reference: str,
    content: bytes,
    *,
    media_type: str = MANIFEST_TYPE,
    patient: bool = True,
    confirm: bool = True,
) -> Put:
    """Put a manifest there under a tag or its digest.

    Args:
        registry: the repository that it goes to.
        reference: the tag or the digest.
        content: its bytes.
        media_type: its type.
        patient: ask again where blobs are said to be missing: they have just been brought.
        confirm: wait until the registry shows it.

    Raises:
        NotFoundError: a blob that it names is not there.
        UnsupportedError: the registry does not know its form, or a type in it.
        RegistryError: it is refused, or the registry made something else of it.
    """
    failures = 0
    headers = {"Content-Type": media_type}
    while True:
        response = registry.call("PUT", f"manifests/{reference}", body=content, headers=headers)
        if succeeded(response):
            return _taken(registry, reference, digest_of(content), response, confirm=confirm)
        refusal = refusals.of(response)
        failures += 1
        again = refusal.may_pass or (patient and refusal.lacks_blob)
        if not again or not registry.transport.wait(failures):
            doing = f"putting the manifest of {registry.repository.name}:{reference}"
            told = registry.transport.refused(response, doing)
            tag = None if ":" in reference else reference
            raise refusals.error_of(refusal, told, str(registry.repository), tag)


def _taken(
    registry: Registry, reference: str, wanted: str, response: requests.Response, *, confirm: bool
) -> Put:
    told = response.headers.get("Docker-Content-Digest", "")
    if told.startswith("sha256:") and told != wanted:
        raise _altered(registry, reference, told, wanted)
    shown = _shown(registry, reference, wanted, sure=told == wanted) if confirm else None
    return Put(wanted, shown, "OCI-Subject" in response.headers)


def _shown(registry: Registry, reference: str, wanted: str, *, sure: bool) -> str | None:
    """What the registry shows, asked until it is what was put, for some seconds."""
    failures = 0
    seen: set[str | None] = set()
    while True:
        try:
            found = registry.manifest_digest(reference)
        except RegistryError:  # who may push may perhaps not read; and it was taken
            return None
        if found == wanted:
            return found
        seen.add(found)
        failures += 1
        if not registry.transport.wait(failures):
            break
    # A tag may be somebody else's by now; a digest that always names the same other one is not.
    altered = ":" in reference and found is not None and len(seen) == 1
    if altered or not sure:
        raise _altered(registry, reference, found, wanted)
    return found


def _altered(registry: Registry, reference: str, found: str | None, wanted: str) -> RegistryError:
    return RegistryError(
        f"{registry.repository}:{reference}: is {found or 'not there'} after the push, "
        f"instead of {wanted}",
        remedy="does somebody else push that tag, or does the registry convert images?",
    )
