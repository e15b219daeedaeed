"""Push of one manifest: retried where two clients write at the same time, then confirmed.

Specification: OCI Distribution Spec 1.1, "Pushing Manifests". A registry with replicated storage
may show a manifest, or what a tag names, some seconds after it accepted it: what counts is that it
did, and the digest in that response.
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
class PushedManifest:
    """A manifest that a registry accepted.

    Attributes:
        digest: of its bytes.
        shown: the digest that the registry shows for its name in the end; None where it shows
            nothing yet, or the login may not read.
        lists: whether the registry lists it by itself as a referrer of its subject.
    """

    digest: str
    shown: str | None
    lists: bool

    def require_shown(self, name: str) -> None:
        """Raise an error if the name refers to another manifest already.

        Args:
            name: the repository with the tag, for the message.

        Raises:
            RegistryError: the registry shows another manifest.
        """
        if self.shown not in (None, self.digest):
            raise RegistryError(
                f"{name}: was moved to {self.digest}, and names {self.shown}",
                remedy="somebody else probably moves that tag at the same time: check which of the "
                "two it should name; if it is this one, run the same command again",
            )


def put(
    registry: Registry,
    reference: str,
    content: bytes,
    *,
    media_type: str = MANIFEST_TYPE,
    patient: bool = True,
    confirm: bool = True,
) -> PushedManifest:
    """Push a manifest under a tag or its digest.

    Args:
        registry: the repository that it goes to.
        reference: the tag or the digest.
        content: its bytes.
        media_type: its type.
        patient: retry where blobs are reported missing: they have just been sent.
        confirm: wait until the registry shows it.

    Raises:
        BlobUnknownError: a blob that it names is not there.
        UnsupportedError: the registry does not support its form, or a type in it.
        RegistryError: it is refused, or the registry altered it.
    """
    failures = 0
    headers = {"Content-Type": media_type}
    while True:
        response = registry.call("PUT", f"manifests/{reference}", body=content, headers=headers)
        if succeeded(response):
            return _accepted(registry, reference, digest_of(content), response, confirm=confirm)
        doing = f"putting the manifest of {registry.repository.name}:{reference}"
        error = registry.transport.refused(response, doing)
        failures += 1
        retry = error.refusal.retryable or (patient and error.refusal.lacks_blob)
        if not retry or not registry.transport.wait(failures):
            tag = None if ":" in reference else reference
            raise refusals.of_manifest(error, str(registry.repository), tag)


def _accepted(
    registry: Registry, reference: str, wanted: str, response: requests.Response, *, confirm: bool
) -> PushedManifest:
    digest = response.headers.get("Docker-Content-Digest", "")
    if digest.startswith("sha256:") and digest != wanted:
        raise _altered(registry, reference, digest, wanted)
    shown = _shown(registry, reference, wanted, sure=digest == wanted) if confirm else None
    return PushedManifest(wanted, shown, "OCI-Subject" in response.headers)


def _shown(registry: Registry, reference: str, wanted: str, *, sure: bool) -> str | None:
    """Return the digest that the registry shows; wait some seconds for the wanted one."""
    failures = 0
    seen: set[str | None] = set()
    while True:
        try:
            found = registry.manifest_digest(reference)
        except RegistryError:  # a login may push and not read; and the manifest was accepted
            return None
        if found == wanted:
            return found
        seen.add(found)
        failures += 1
        if not registry.transport.wait(failures):
            break
    # Somebody else may have moved a tag by now; under a digest, another one means alteration.
    altered = ":" in reference and found is not None and len(seen) == 1
    if altered or not sure:
        raise _altered(registry, reference, found, wanted)
    return found


def _altered(registry: Registry, reference: str, found: str | None, wanted: str) -> RegistryError:
    return RegistryError(
        f"{registry.repository}:{reference}: is {found or 'not there'} after the push, "
        f"instead of {wanted}",
        remedy="check whether somebody else pushes that tag, or the registry converts images",
    )
