"""Documents about an image into a registry, so that it lists them when asked about the image.

Specification: OCI Distribution Spec 1.1, "Pushing Manifests with Subject", "Listing Referrers",
"Referrers Tag Schema". A registry with the referrers API lists them by itself and says so by the
header OCI-Subject. For another one the client keeps the list: an index under the tag
`sha256-<digest>`.

Two clients may change that index at once. The specification knows no better than a conditional PUT,
which many registries ignore: so the index is read again, and changed again where an entry is
missing. Should one be lost all the same, the next push of the image brings it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from images import image, jsontext, referrer, upload
from images.errors import LoginError, RegistryError
from images.image import INDEX_TYPE, MANIFEST_TYPE
from images.referrer import Referrer
from images.registry import Registry
from images.retry import PassingError
from images.store import Store
from images.upload import Sizes, Source
from images.web import succeeded

_NO_API = (200, 400, 404, 405, 406)
"""What registries without the API answer: 404 by the specification, 200 with a page for people."""

_CHANGED = (409, 412)
_REMEDY = "to push the image without SBOM and provenance: --no-attest"


@dataclass(frozen=True, slots=True)
class Attached:
    """A document about an image, in the registry.

    Attributes:
        artifact_type: media type.
        digest: of the artifact's manifest.
        state: whether it was sent now.
    """

    artifact_type: str
    digest: str
    state: Literal["sent", "present"]


def attach(
    registry: Registry, store: Store, referrers: Sequence[Referrer]
) -> tuple[list[Attached], int]:
    """Bring documents about one image there; gives how each got there, and the bytes sent.

    Args:
        registry: the repository that holds the image.
        store: holds the documents.
        referrers: all of one subject.

    Raises:
        RegistryError: the registry refuses them or cannot be reached.
    """
    if not referrers:
        return [], 0
    try:
        return _attach(registry, store, referrers)
    except LoginError:
        raise
    except RegistryError as error:
        raise RegistryError(error.message, remedy=error.remedy or _REMEDY) from error


def _attach(
    registry: Registry, store: Store, referrers: Sequence[Referrer]
) -> tuple[list[Attached], int]:
    subject = str(referrers[0].subject["digest"])
    listed = {item["digest"] for item in _listed(registry, subject)}
    lacking = [item for item in referrers if item.digest not in listed]
    sent = sum(_blob(registry, store, content) for content in _contents(lacking))
    unlisted = []
    for item in lacking:
        sent += len(item.manifest)
        if not _put(registry, item):
            unlisted.append(item)
    if unlisted:
        sent += _list(registry, subject, unlisted)
    return [
        Attached(item.artifact_type, item.digest, "sent" if item in lacking else "present")
        for item in referrers
    ], sent


def _contents(referrers: Sequence[Referrer]) -> list[bytes]:
    return list(dict.fromkeys(c for item in referrers for c in (referrer.EMPTY, item.content)))


def _blob(registry: Registry, store: Store, content: bytes) -> int:
    digest, size = image.digest(content), len(content)
    if registry.has_blob(digest, size):
        return 0
    source = Source(store.blob_path(digest), digest, size)
    return upload.send(registry, source, lambda _: None, Sizes())


def _put(registry: Registry, item: Referrer) -> bool:
    """Put the artifact there; gives whether the registry lists it by itself."""
    headers = {"Content-Type": MANIFEST_TYPE}
    response = registry.call("PUT", f"manifests/{item.digest}", body=item.manifest, headers=headers)
    if not succeeded(response):
        doing = f"putting {item.title} to {registry.repository.name}"
        raise registry.exchange.refused(response, doing)
    return "OCI-Subject" in response.headers


# -- the list --------------------------------------------------------------------------------------


def _listed(registry: Registry, subject: str) -> list[dict[str, Any]]:
    """Descriptors of what is about that image, from the API or, where there is none, the tag."""
    found: list[dict[str, Any]] = []
    path = f"referrers/{subject}"
    while path:
        response = registry.call("GET", path, headers={"Accept": INDEX_TYPE})
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if response.status_code != 200 or kind != INDEX_TYPE:
            if response.status_code not in _NO_API:
                doing = f"asking {registry.repository.name} for referrers"
                raise registry.exchange.refused(response, doing)
            return list(_tagged(registry, subject)[0]["manifests"])
        found += _index(registry, path, response.content)["manifests"]
        following = response.links.get("next", {}).get("url", "")
        path = f"referrers/{subject}?{following.partition('?')[2]}" if following else ""
    return found


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
        raise registry.exchange.refused(response, f"asking for {registry.repository.name}:{tag}")
    return _index(registry, tag, response.content), response.headers.get("ETag")


def _index(registry: Registry, where: str, content: bytes) -> dict[str, Any]:
    try:
        index: dict[str, Any] = jsontext.loads(content)
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
    while True:
        index, etag = _tagged(registry, subject)
        there = {item["digest"] for item in index["manifests"]}
        new = [item.descriptor for item in referrers if item.digest not in there]
        if not new:
            return sent
        if failures:
            error = PassingError("somebody else changes the list of referrers at the same time")
            registry.exchange.pause(failures, error, f"PUT {_tag(subject)}")
        content = image.canonical({**index, "manifests": [*index["manifests"], *new]})
        sent += len(content)
        _put_index(registry, _tag(subject), content, etag)
        failures += 1


def _put_index(registry: Registry, tag: str, content: bytes, etag: str | None) -> None:
    """Replace the index; where the registry says that it is another one by now, nothing is done."""
    headers = {"Content-Type": INDEX_TYPE, **({"If-Match": etag} if etag else {})}
    response = registry.call("PUT", f"manifests/{tag}", body=content, headers=headers)
    if not succeeded(response) and response.status_code not in _CHANGED:
        raise registry.exchange.refused(response, f"putting {registry.repository.name}:{tag}")


def _tag(subject: str) -> str:
    return subject.replace(":", "-")
