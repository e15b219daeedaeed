"""Documents about an image into a registry, so that it lists them when asked about the image.

Specification: OCI Distribution Spec 1.1, "Pushing Manifests with Subject", "Listing Referrers",
"Referrers Tag Schema". A registry with the referrers API lists them by itself and says so by the
header OCI-Subject. For another one the client keeps the list: an index under the tag
`sha256-<digest>`.

Two clients may change that index at once. The specification knows no better than a conditional PUT,
which many registries ignore: so the index is read again, and changed again where an entry is
missing. Should one be lost all the same, the next push of the image brings it back.

An image is of use without them: what a registry does not take, list or show is a note, unless the
documents are asked for by name.
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
from images.oci.registry import manifests, refusals, upload
from images.oci.registry.client import Registry
from images.oci.registry.upload import Sizes, Source
from images.oci.store.store import Store
from images.util import limits, untrusted_json

_CHANGED = (409, 412)
_REMEDY = "to push the image without SBOM and provenance: --no-attest"


State = Literal["sent", "present", "unlisted"]


@dataclass(frozen=True, slots=True)
class Attached:
    """A document about an image, in the registry.

    Attributes:
        artifact_type: media type.
        digest: of the artifact's manifest.
        state: whether it was sent now; `unlisted` where it is there and no list names it.
    """

    artifact_type: str
    digest: str
    state: State


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the documents.

    Attributes:
        attached: those that are there.
        sent: bytes of requests' bodies.
        notes: why others are not there, or not listed.
    """

    attached: tuple[Attached, ...] = ()
    sent: int = 0
    notes: tuple[str, ...] = ()


def attach(
    registry: Registry, store: Store, referrers: Sequence[Referrer], *, strict: bool = False
) -> Outcome:
    """Bring documents about one image there.

    Args:
        registry: the repository that holds the image.
        store: holds the documents.
        referrers: all of one subject.
        strict: fail where one of them is not there and listed in the end.

    Raises:
        RegistryError: the registry refuses them or cannot be reached, and it is strict.
        IntegrityError: a document in the store is damaged, and it is strict.
    """
    if not referrers:
        return Outcome()
    attaching = _Attaching(registry, store, referrers)
    try:
        attaching.bring()
    except (RegistryError, IntegrityError) as error:
        if strict:
            raise type(error)(error.message, remedy=error.particular or _REMEDY) from error
        why = f"the image is there, and not all that is said about it: {error.message}"
        return attaching.outcome(why)
    return attaching.outcome()


class _Attaching:
    """Documents on their way, and how each got there so far."""

    def __init__(self, registry: Registry, store: Store, referrers: Sequence[Referrer]) -> None:
        self._registry, self._store, self._referrers = registry, store, referrers
        self._states: dict[str, State] = {}
        self._sent = 0

    def outcome(self, *notes: str) -> Outcome:
        """All of it."""
        found = (
            Attached(item.artifact_type, item.digest, self._states[item.digest])
            for item in self._referrers
            if item.digest in self._states
        )
        return Outcome(tuple(found), self._sent, notes)

    def bring(self) -> None:
        """Bring those that are not listed, and have them listed."""
        subject = str(self._referrers[0].subject["digest"])
        listed = _listed(self._registry, subject)
        lacking = [item for item in self._referrers if item.digest not in listed]
        known = [item.digest for item in self._referrers if item.digest in listed]
        self._states |= dict.fromkeys(known, "present")
        for content in _contents(lacking):
            self._sent += _blob(self._registry, self._store, content)
        unlisted = [item for item in lacking if not self._put(item)]
        if unlisted:
            self._sent += _list(self._registry, subject, unlisted)
        self._states |= dict.fromkeys((item.digest for item in unlisted), "sent")

    def _put(self, item: Referrer) -> bool:
        """Put the artifact there; gives whether the registry lists it by itself."""
        done = manifests.put(self._registry, item.digest, item.manifest, confirm=False)
        self._sent += len(item.manifest)
        self._states[item.digest] = "sent" if done.lists else "unlisted"
        return done.lists


def _contents(referrers: Sequence[Referrer]) -> list[bytes]:
    return list(dict.fromkeys(c for item in referrers for c in (referrer.EMPTY, item.content)))


def _blob(registry: Registry, store: Store, content: bytes) -> int:
    digest, size = digest_of(content), len(content)
    if registry.has_blob(digest, size):
        return 0
    source = Source(store.blob_path(digest), digest, size)
    return upload.send(registry, source, lambda _: None, Sizes())


# -- the list --------------------------------------------------------------------------------------


def _listed(registry: Registry, subject: str) -> frozenset[str]:
    """Digests of what is said to be about that image; none where there is no telling."""
    try:
        found = _of_api(registry, subject)
        if found is None:
            found = _tagged(registry, subject)[0]["manifests"]
    except RegistryError:  # they are put there once more, which changes nothing
        return frozenset()
    return frozenset(str(item["digest"]) for item in found)


def _of_api(registry: Registry, subject: str) -> list[dict[str, Any]] | None:
    """Descriptors from the referrers API; None where there is none, or none of use."""
    found: list[dict[str, Any]] = []
    path = f"referrers/{subject}"
    for _ in range(limits.PAGES):
        response = registry.call("GET", path, headers={"Accept": INDEX_TYPE})
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if response.status_code != 200 or kind != INDEX_TYPE:
            return None
        found += _index(registry, path, response.content)["manifests"]
        following = response.links.get("next", {}).get("url", "")
        if not following:
            return found
        path = f"referrers/{subject}?{following.partition('?')[2]}"
    return None


def _tagged(registry: Registry, subject: str) -> tuple[dict[str, Any], str | None]:
    """The index that clients keep, and its ETag; an empty one where there is none yet.

    Raises:
        RegistryError: that tag is something else, or cannot be read.
    """
    tag = _tag(subject)
    # A registry may hide behind a 404 what the header does not name: it would be overwritten.
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


def _list(registry: Registry, subject: str, referrers: Sequence[Referrer]) -> int:
    """Enter artifacts in the index that clients keep; gives the bytes sent."""
    sent = failures = 0
    replaced: bytes | None = None  # what our index took the place of
    refused: RegistryError | None = None
    while True:
        index, etag = _tagged(registry, subject)
        there = {item["digest"] for item in index["manifests"]}
        new = [item.descriptor for item in referrers if item.digest not in there]
        if not new:
            return sent
        before = canonical_json(index)
        if failures and not registry.transport.wait(failures):
            if before == replaced:  # it took ours, and shows it late
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
    """Replace the index; gives the error where it may be taken a moment later, read again."""
    headers = {"Content-Type": INDEX_TYPE, **({"If-Match": etag} if etag else {})}
    response = registry.call("PUT", f"manifests/{tag}", body=content, headers=headers)
    if succeeded(response):
        return None
    if response.status_code in _CHANGED:
        return _disturbed(registry, tag)
    refusal = refusals.of(response)
    refused = registry.transport.refused(response, f"putting {registry.repository.name}:{tag}")
    if refusal.may_pass or refusal.lacks_blob:
        return refused
    raise refused


def _disturbed(registry: Registry, tag: str) -> RegistryError:
    return RegistryError(
        f"{registry.repository}:{tag}: somebody else changes the list of referrers at the same "
        "time, again and again",
        remedy="push once more: what is missing is entered then",
    )


def _tag(subject: str) -> str:
    return subject.replace(":", "-")
