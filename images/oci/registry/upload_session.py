"""Upload sessions of a repository: the requests by which a blob gets there.

Specification: OCI Distribution Spec 1.1, "Pushing blobs", "Mounting a blob from another
repository". `images.oci.registry.upload` makes the attempts and retries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from images.errors import RegistryError
from images.http.retry import TransientError
from images.http.session import succeeded
from images.oci.registry.client import OPTIONAL_TIMEOUT
from images.oci.registry.refusals import PayloadTooLargeError

if TYPE_CHECKING:
    import requests

    from images.oci.registry.client import Registry
    from images.oci.registry.transport import Body

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]+)")
_OCTETS = {"Content-Type": "application/octet-stream"}
_STORE_TIMEOUT = 600.0
"""Seconds: a registry on object storage may copy a large blob before it answers."""

_EXPIRED = (400, 404, 409, 410, 416)
"""Of a session that was begun: it is gone, or busy with another request. A new one is neither."""

_MOUNT_ATTEMPTS = 3  # sending the blob is always possible


class UploadExpiredError(TransientError):
    """The upload session has expired; restart from byte 0."""


class UploadSession:
    """An upload session. Each response names the URL of the next request.

    Args:
        registry: the repository.
        response: the one that began the session.

    Attributes:
        location: URL of the next request.
        min_chunk: least bytes of a chunk that the registry accepts.
    """

    def __init__(self, registry: Registry, response: requests.Response) -> None:
        self._registry = registry
        self._doing = f"an upload to {registry.repository.name}"
        self.location = self._next(response)
        least = response.headers.get("OCI-Chunk-Min-Length", "0")
        self.min_chunk = int(least) if least.isdecimal() else 0

    @classmethod
    def begin(cls, registry: Registry) -> UploadSession:
        """Begin an upload session.

        Raises:
            TransientError, RegistryError: as `Transport.once`, or it is refused.
        """
        response = registry.once("POST", registry.url("blobs/uploads/"), body=lambda: b"")
        doing = f"an upload to {registry.repository.name}"
        if response.status_code == 409:  # e.g. two first pushes create one repository
            raise TransientError(registry.transport.refused(response, doing).message)
        registry.transport.require_success(response, doing)
        return cls(registry, response)

    def append(self, body: Callable[[], Body], content_range: str | None) -> None:
        """Append bytes to the upload.

        Args:
            body: returns the bytes.
            content_range: `FIRST-LAST`, inclusive; None for a stream from the start.

        Raises:
            UploadExpiredError, TransientError: the bytes did not get there.
            PayloadTooLargeError: they are too many for one request.
            RegistryError: the registry refuses them.
        """
        headers = {**_OCTETS, **({"Content-Range": content_range} if content_range else {})}
        response = self._registry.once("PATCH", self.location, body=body, headers=headers)
        if not succeeded(response):
            error = self._registry.transport.refused(response, self._doing)
            if error.refusal.too_large:
                raise PayloadTooLargeError(error.message, error.refusal)
            raise self._refused(response)
        self.location = self._next(response)

    def received(self) -> int:
        """Ask how many bytes the registry has.

        Raises:
            UploadExpiredError: the registry does not know the session any more.
            TransientError, RegistryError: as `Transport.once`.
        """
        response = self._registry.once("GET", self.location)
        match = _RANGE.fullmatch(response.headers.get("Range", ""))
        if not succeeded(response) or not match:
            raise UploadExpiredError("an upload was lost")
        self.location = self._next(response)
        # An empty upload's range is 0-0, too: one byte less does no harm, one more would.
        last = int(match[1])
        return last + 1 if last else 0

    def finish(self, digest: str, content: bytes = b"") -> None:
        """End the upload, with all of the blob or after all of its parts.

        Raises:
            UploadExpiredError, TransientError, RegistryError: the registry made no blob of it.
        """
        location = self.location
        response = self._registry.once(
            "PUT",
            f"{location}{'&' if '?' in location else '?'}digest={quote(digest)}",
            body=lambda: content,
            headers=_OCTETS,
            timeout=_STORE_TIMEOUT,
        )
        if not succeeded(response):
            raise self._refused(response)
        if (made := response.headers.get("Docker-Content-Digest", digest)) != digest:
            raise RegistryError(f"{self._registry.repository}: stored the blob {digest} as {made}")

    def cancel(self) -> None:
        """Cancel the upload; if the registry does not support that, the session expires there."""
        with suppress(TransientError, RegistryError):
            self._registry.once("DELETE", self.location, timeout=OPTIONAL_TIMEOUT)

    def _refused(self, response: requests.Response) -> Exception:
        error = self._registry.transport.refused(response, self._doing)
        if response.status_code in _EXPIRED:
            return UploadExpiredError(error.message)
        return error

    def _next(self, response: requests.Response) -> str:
        transport = self._registry.transport
        location = response.headers.get("Location")
        if not location:
            raise RegistryError(f"{transport.registry}: answers an upload without Location")
        return transport.resolved(location, response.url)


def mount(registry: Registry, digest: str, source: str) -> bool:
    """Mount a blob from another repository of the same registry.

    Where that is not possible a registry begins an upload session instead; it is cancelled.

    Args:
        registry: the repository that the blob goes to.
        digest: of the blob.
        source: the name of the repository that may have it.

    Returns:
        Whether the blob is there now.

    Raises:
        LoginError: the login may not read that repository.
        RegistryError: the registry does not answer, or not as a registry does.
    """
    url = registry.url("blobs/uploads/") + f"?mount={quote(digest)}&from={quote(source)}"
    scopes = (f"repository:{source}:pull",)
    response = registry.optional("POST", url, scopes=scopes, max_attempts=_MOUNT_ATTEMPTS)
    if response.status_code == 202:
        UploadSession(registry, response).cancel()
    return response.status_code == 201
