"""Push of an image's referrers (SBOM, provenance), so that the registry lists them with the image.

Specification: OCI Distribution Spec 1.1, "Pushing Manifests with Subject", "Listing Referrers",
"Referrers Tag Schema". A registry with the referrers API lists them by itself and reports that by
the header OCI-Subject. For another one the client keeps the list: an index under the tag
`sha256-<digest>`.

Two clients may change that index at once. The specification offers nothing better than a
conditional PUT, which many registries ignore: so the index is read again, and changed again where
an entry is missing. If one is lost all the same, the next push of the image restores it.

An image is usable without them: what a registry does not accept, list or show is a note, unless the
documents were requested by an option.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from images.errors import IntegrityError, RegistryError
from images.http.session import succeeded
from images.oci import referrer
from images.oci.descriptor import INDEX_TYPE, MANIFEST_TYPE, canonical_json, digest_of
from images.oci.referrer import Referrer
from images.oci.registry import manifests, upload
from images.oci.registry.client import Registry
from images.oci.registry.upload import BodyLimit, StoredBlob
from images.oci.store.store import Store
from images.util import limits, untrusted_json

_CHANGED = (409, 412)
_REMEDY = "to push the image without SBOM and provenance: --no-attest"


State = Literal["sent", "present", "unlisted"]


@dataclass(frozen=True, slots=True)
class Attached:
    """A referrer in the registry.

    Attributes:
        artifact_type: media type.
        digest: of the artifact's manifest.
        state: whether it was sent now; `unlisted` where it is there and no list contains it.
    """

    artifact_type: str
    digest: str
    state: State


@dataclass(frozen=True, slots=True)
class AttachResult:
    """The result of `attach`.

    Attributes:
        attached: the referrers that are there.
        sent: bytes of requests' bodies.
        notes: why others are not there, or not listed.
    """

    attached: tuple[Attached, ...] = ()
    sent: int = 0
    notes: tuple[str, ...] = ()


def attach(
    registry: Registry, store: Store, referrers: Sequence[Referrer], *, strict: bool = False
) -> AttachResult:
    """Push the referrers of one image.

    Args:
        registry: the repository that contains the image.
        store: contains the documents.
        referrers: all of one subject.
        strict: fail unless all of them are there and listed in the end.

    Raises:
        RegistryError: strict, and the registry refuses them or cannot be reached.
        IntegrityError: strict, and a document in the store is damaged.
    """
    if not referrers:
        return AttachResult()
    attachment = _Attachment(registry, store, referrers)
    try:
        attachment.push()
    except (RegistryError, IntegrityError) as error:
        if strict:
            raise error.reworded(remedy=error.particular or _REMEDY) from error
        note = f"the image is there, but not all documents about it: {error.message}"
        return attachment.result(note)
    return attachment.result()


class _Attachment:
    """Referrers that are being pushed, and the state of each so far."""

    def __init__(self, registry: Registry, store: Store, referrers: Sequence[Referrer]) -> None:
        self._registry, self._store, self._referrers = registry, store, referrers
        self._states: dict[str, State] = {}
        self._sent = 0

    def result(self, *notes: str) -> AttachResult:
        """Return the states so far."""
        found = (
            Attached(item.artifact_type, item.digest, self._states[item.digest])
            for item in self._referrers
            if item.digest in self._states
        )
        return AttachResult(tuple(found), self._sent, notes)

    def push(self) -> None:
        """Push those that are not listed, and have them listed."""
        subject = str(self._referrers[0].subject["digest"])
        listed = _listed(self._registry, subject)
        lacking = [item for item in self._referrers if item.digest not in listed]
        known = [item.digest for item in self._referrers if item.digest in listed]
        self._states |= dict.fromkeys(known, "present")
        for content in _contents(lacking):
            self._sent += _push_blob(self._registry, self._store, content)
        unlisted = [item for item in lacking if not self._put(item)]
        if unlisted:
            self._sent += _add_to_index(self._registry, subject, unlisted)
        self._states |= dict.fromkeys((item.digest for item in unlisted), "sent")

    def _put(self, item: Referrer) -> bool:
        """Push the artifact manifest; return whether the registry lists it by itself."""
        done = manifests.put(self._registry, item.digest, item.manifest, confirm=False)
        self._sent += len(item.manifest)
        self._states[item.digest] = "sent" if done.lists else "unlisted"
        return done.lists


def _contents(referrers: Sequence[Referrer]) -> list[bytes]:
    return list(dict.fromkeys(c for item in referrers for c in (referrer.EMPTY, item.content)))


def _push_blob(registry: Registry, store: Store, content: bytes) -> int:
    digest, size = digest_of(content), len(content)
    if registry.has_blob(digest, size):
        return 0
    blob = StoredBlob(store.blobs.path(digest), digest, size)
    return upload.send(registry, blob, lambda _: None, BodyLimit())


# -- the list --------------------------------------------------------------------------------------


def _listed(registry: Registry, subject: str) -> frozenset[str]:
    """Return the digests of the listed referrers; none where the list cannot be read."""
    try:
        found = _of_api(registry, subject)
        if found is None:
            found = _tagged(registry, subject)[0]["manifests"]
    except RegistryError:  # they are pushed once more, which changes nothing
        return frozenset()
    return frozenset(str(item["digest"]) for item in found)


def _of_api(registry: Registry, subject: str) -> list[dict[str, Any]] | None:
    """Return the descriptors of the referrers API; None where there is none, or none of use."""
    found: list[dict[str, Any]] = []
    path = f"referrers/{subject}"
    for _ in range(limits.PAGES):
        response = registry.call("GET", path, headers={"Accept": INDEX_TYPE})
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if response.status_code != 200 or kind != INDEX_TYPE:
            return None
        found += _index(registry, path, response.content)["manifests"]
        next_page = response.links.get("next", {}).get("url", "")
        if not next_page:
            return found
        path = f"referrers/{subject}?{next_page.partition('?')[2]}"
    return None


def _tagged(registry: Registry, subject: str) -> tuple[dict[str, Any], str | None]:
    """Return the index that clients keep, and its ETag; an empty one where there is none yet.

    Raises:
        RegistryError: the tag names something else, or cannot be read.
    """
    tag = _tag(subject)
    # A registry may return 404 for a type that the header does not name: it would be overwritten.
    accept = f"{INDEX_TYPE}, {MANIFEST_TYPE}"
    response = registry.call("GET", f"manifests/{tag}", headers={"Accept": accept})
    if response.status_code == 404:
        return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}, None
    if response.status_code != 200:
        raise registry.transport.refused(response, f"asking for {registry.repository.name}:{tag}")
    return _index(registry, tag, response.content), response.headers.get("ETag")


def _index(registry: Registry, where: str, content: bytes) -> dict[str, Any]:
    try:
        index: dict[str, Any] = untrusted_json.loads(content)
        if (kind := index.get("mediaType", INDEX_TYPE)) != INDEX_TYPE:
            raise ValueError(f"its type is {kind}")
        for item in index["manifests"]:
            item["digest"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"{registry.repository}: {where}: no list of referrers: {error!r}",
            remedy=f"remove that tag if nobody needs it; {_REMEDY}",
        ) from error
    return index


def _add_to_index(registry: Registry, subject: str, referrers: Sequence[Referrer]) -> int:
    """Add artifacts to the index that clients keep; return the bytes sent."""
    sent = failures = 0
    replaced: bytes | None = None  # the index that ours replaced
    refused: RegistryError | None = None
    while True:
        index, etag = _tagged(registry, subject)
        there = {item["digest"] for item in index["manifests"]}
        new = [item.descriptor for item in referrers if item.digest not in there]
        if not new:
            return sent
        before = canonical_json(index)
        if failures and not registry.transport.wait(failures):
            if before == replaced:  # it accepted ours, and shows it late
                return sent
            raise refused or _disturbed(registry, _tag(subject))
        failures += 1
        if before != replaced:
            content = canonical_json({**index, "manifests": [*index["manifests"], *new]})
            sent += len(content)
            refused = _put_index(registry, _tag(subject), content, etag)
            replaced = None if refused else before


def _put_index(
    registry: Registry, tag: str, content: bytes, etag: str | None
) -> RegistryError | None:
    """Replace the index; return the error where another attempt on a new reading may succeed."""
    headers = {"Content-Type": INDEX_TYPE, **({"If-Match": etag} if etag else {})}
    response = registry.call("PUT", f"manifests/{tag}", body=content, headers=headers)
    if succeeded(response):
        return None
    if response.status_code in _CHANGED:
        return _disturbed(registry, tag)
    error = registry.transport.refused(response, f"putting {registry.repository.name}:{tag}")
    if error.refusal.retryable or error.refusal.lacks_blob:
        return error
    raise error


def _disturbed(registry: Registry, tag: str) -> RegistryError:
    return RegistryError(
        f"{registry.repository}:{tag}: another client keeps changing the list of referrers",
        remedy="push once more: missing entries are added then",
    )


def _tag(subject: str) -> str:
    return subject.replace(":", "-")
