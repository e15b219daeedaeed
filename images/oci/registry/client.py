"""One repository of a registry: is something there, get it, mount it, put it there.

Specification: OCI Distribution Spec 1.1, "Pull", "Checking if content exists in the registry",
"Pushing blobs", "Mounting a blob from another repository", "Pushing manifests".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

from images.errors import IntegrityError, RegistryError
from images.http.redirect import is_redirect
from images.http.retry import Policy, TransientError
from images.http.session import succeeded
from images.oci.descriptor import DIGEST, MANIFEST_TYPE, digest_of
from images.oci.reference import Repository, canonical
from images.oci.registry.auth import Scopes
from images.oci.registry.refusals import NotFoundError
from images.oci.registry.transport import Transport
from images.util import limits

if TYPE_CHECKING:
    import requests

    from images.oci.registry.transport import Body

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]+)")
_OCTETS = "application/octet-stream"
_PIECE = 1 << 20
_STORING = 600.0  # seconds: a registry on object storage may copy a large blob before it answers
_LOST = (400, 404, 409, 410, 416)
"""Of an upload that was begun: it is gone, or another request is at it; a new one has neither."""
_ASIDE = 30.0  # seconds after which what only saves work is not tried again
_MOUNT_ATTEMPTS = 3  # sending the blob is always possible


class UploadExpiredError(TransientError):
    """The registry knows nothing of an upload any more: the blob must be sent from its start."""


class PayloadTooLargeError(Exception):
    """The registry, or a proxy before it, takes no request body of that size."""


Actions = Literal["pull", "pull,push"]
"""What a token is asked for: a login that may only read gets none that may write as well."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index as a registry gave it, its bytes checked against its digest.

    Attributes:
        content: its bytes.
        media_type: what the registry says that it is.
        digest: `sha256:…` of the bytes.
    """

    content: bytes
    media_type: str
    digest: str


class Registry:
    """A repository of a registry. Leaving the context breaks off whatever still runs.

    Attributes:
        canonical: the repository in the one spelling that all others of it have; what is to be
            compared or remembered.

    Args:
        repository: which one.
        plain_http: talk without TLS.
        policy: how often something is tried.
        actions: what will be done there.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        plain_http: bool = False,
        policy: Policy | None = None,
        actions: Actions = "pull,push",
    ) -> None:
        self.repository = repository
        self.canonical = canonical(repository, plain_http=plain_http)
        self.transport = Transport(
            repository.registry,
            plain_http=plain_http,
            policy=policy or Policy(),
            name=repository.name,
        )
        self._scopes: Scopes = (f"repository:{repository.name}:{actions}",)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """A request below the repository's name, e.g. to `manifests/v1`; see `Transport.call`."""
        url = self.transport.url(f"{self.repository.name}/{path}")
        return self.transport.call(method, url, self._scopes, body=body, headers=headers)

    # -- manifests ---------------------------------------------------------------------------------

    def manifest_digest(self, reference: str) -> str | None:
        """The digest of the manifest with that tag or digest, or None.

        Raises:
            RegistryError: it does not answer, or wants another login.
        """
        url = self._url("manifests", reference)
        accept = {"Accept": MANIFEST_TYPE}
        response = self.transport.call("HEAD", url, self._scopes, headers=accept)
        if response.status_code == 404:
            return None
        told = response.headers.get("Docker-Content-Digest", "")
        there = succeeded(response) or is_redirect(response.status_code)
        if there and DIGEST.fullmatch(told):
            return told
        # The header is a SHOULD: without it, the bytes tell, also where a storage takes no HEAD.
        # And the reason of a refusal is in a body, which the answer to a HEAD has none of.
        response = self.transport.call("GET", url, self._scopes, headers=accept)
        if response.status_code == 404:
            return None
        if not succeeded(response):
            raise self.transport.refused(response, f"asking for {self.repository.name}:{reference}")
        return digest_of(response.content)

    def manifest(self, reference: str, accept: Sequence[str] = (MANIFEST_TYPE,)) -> Manifest | None:
        """Get the manifest with that tag or digest; None if there is none.

        Args:
            reference: a tag, or a digest that the bytes then must have.
            accept: the media types that are of use.

        Raises:
            IntegrityError: the bytes have another digest, or are too many for a manifest.
            TransientError: the connection broke; try again.
            RegistryError: it refuses, or wants another login.
        """
        url = self._url("manifests", reference)
        with self.transport.streaming(url, self._scopes, {"Accept": ", ".join(accept)}) as response:
            if response.status_code == 404:
                return None
            named = f"{self.repository}{'@' if ':' in reference else ':'}{reference}"
            if not succeeded(response):
                raise self.transport.refused(response, f"getting the manifest {named}")
            content = b""
            for piece in response.iter_content(_PIECE):
                content += piece
                if len(content) > limits.DOCUMENT:
                    raise IntegrityError(f"{named}: larger than {limits.DOCUMENT} bytes")
            told = response.headers.get("Docker-Content-Digest", "")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        found = digest_of(content)
        for wanted in (reference if ":" in reference else "", told):
            if wanted.startswith("sha256:") and wanted != found:
                raise IntegrityError(f"{named}: its bytes have the digest {found}, not {wanted}")
        return Manifest(content, media_type, found)

    # -- blobs -------------------------------------------------------------------------------------

    def has_blob(self, digest: str, size: int) -> bool:
        """Whether the blob is there.

        Raises:
            RegistryError: it does not answer, or wants another login.
        """
        response = self._aside("HEAD", self._url("blobs", digest), self._scopes)
        if response.status_code == 404:
            return False
        if is_redirect(response.status_code):  # to a storage that takes no HEAD
            return True
        if not succeeded(response):
            raise self.transport.refused(response, f"asking {self.repository.name} for a blob")
        # Missing where a proxy compresses; a blob of another size is a broken one.
        return response.headers.get("Content-Length", str(size)) == str(size)

    @contextmanager
    def blob(self, digest: str, begin: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """One attempt to read a blob: the offset that it starts at, and its pieces as they come.

        Nothing is checked: `images.oci.registry.download` does that. What a registry redirects to
        gets no login.

        Args:
            digest: of the blob.
            begin: bytes that are there already. A registry that cannot resume starts at 0.

        Raises:
            NotFoundError: the repository has no such blob.
            TransientError: the connection broke, also while the pieces are read; try again.
            RegistryError: it refuses, or wants another login.
        """
        # As it is: an encoding for the way would make other bytes and other offsets.
        headers = {"Accept-Encoding": "identity"}
        if begin:
            headers["Range"] = f"bytes={begin}-"
        doing = f"getting the blob {digest[:19]} of {self.repository.name}"
        url = self._url("blobs", digest)
        with self.transport.streaming(url, self._scopes, headers) as response:
            if response.status_code == 404:
                raise NotFoundError(f"{self.repository}: has no blob {digest}")
            if not succeeded(response):
                raise self.transport.refused(response, doing)
            start = begin if response.status_code == 206 else 0
            told = response.headers.get("Content-Range", "")
            if start and not told.startswith(f"bytes {start}-"):
                raise RegistryError(f"{self.repository.registry}: {doing}: sends {told!r} instead")
            yield start, response.raw.stream(_PIECE, decode_content=False)

    def mount(self, digest: str, source: str) -> bool:
        """Take a blob over from another repository of the same registry.

        Where that is not possible a registry begins an upload instead; it is given up again.

        Args:
            digest: of the blob.
            source: the name of the repository that may have it.

        Returns:
            Whether the blob is there now.

        Raises:
            LoginError: the login may not read that repository.
            RegistryError: the registry does not answer, or not as a registry does.
        """
        url = self._url("blobs", "uploads/") + f"?mount={quote(digest)}&from={quote(source)}"
        scopes = (*self._scopes, f"repository:{source}:pull")
        response = self._aside("POST", url, scopes, most=_MOUNT_ATTEMPTS)
        if response.status_code == 202:
            self.cancel(self._location(response))
        return response.status_code == 201

    def _aside(
        self, method: str, url: str, scopes: Scopes, most: int | None = None
    ) -> requests.Response:
        """A request that only saves work: it is not waited for as long as one that counts.

        Raises:
            LoginError, RegistryError: as `Transport.once`, or the attempts are used up.
        """
        failures, end = 0, time.monotonic() + _ASIDE
        body = (lambda: b"") if method == "POST" else None
        while True:
            try:
                return self.transport.once(method, url, scopes, body=body, patience=_ASIDE)
            except TransientError as error:
                failures += 1
                late = time.monotonic() > end or failures == most
                if late or not self.transport.wait(failures, error.after):
                    doing = f"{self.transport.registry}: {method} {urlsplit(url).path}"
                    raise RegistryError(f"{doing}: {failures} attempts failed: {error}") from None

    def start_upload(self) -> tuple[str, int]:
        """Begin an upload: where it goes to, and the least size of a chunk.

        Raises:
            TransientError, RegistryError: as `Transport.once`, or it is refused.
        """
        url = self._url("blobs", "uploads/")
        response = self.transport.once("POST", url, self._scopes, body=lambda: b"")
        if response.status_code == 409:  # e.g. two first pushes make one repository
            raise TransientError(str(self.transport.refused(response, "an upload")))
        if not succeeded(response):
            raise self.transport.refused(response, f"an upload to {self.repository.name}")
        least = response.headers.get("OCI-Chunk-Min-Length", "0")
        return self._location(response), int(least) if least.isdecimal() else 0

    def send_part(self, location: str, body: Callable[[], Body], content_range: str | None) -> str:
        """Append to an upload; gives the address of what follows.

        Args:
            location: of the upload.
            body: makes the bytes.
            content_range: `FIRST-LAST`, inclusive; None for a stream from the start.

        Raises:
            UploadExpiredError, PayloadTooLargeError, TransientError: it was not taken.
            RegistryError: it is refused.
        """
        headers = {"Content-Type": _OCTETS}
        if content_range:
            headers["Content-Range"] = content_range
        response = self.transport.once("PATCH", location, self._scopes, body=body, headers=headers)
        if succeeded(response):
            return self._location(response)
        refused = self.transport.refused(response, f"an upload to {self.repository.name}")
        # Some say 416 of a body that is too large; alone, it is of a range that does not fit.
        large = response.status_code == 416 and "too large" in refused.message
        if response.status_code == 413 or large:
            raise PayloadTooLargeError(refused.message)
        raise self._unfinished(response)

    def uploaded(self, location: str) -> tuple[str, int]:
        """How far an upload got: where it goes on, and bytes that are there.

        Raises:
            UploadExpiredError: the registry does not know it any more.
            TransientError, RegistryError: as `Transport.once`.
        """
        response = self.transport.once("GET", location, self._scopes)
        match = _RANGE.fullmatch(response.headers.get("Range", ""))
        if not succeeded(response) or not match:
            raise UploadExpiredError("an upload was lost")
        # An empty upload's range is 0-0, too: one byte less is no harm, one more would be.
        last = int(match[1])
        return self._location(response), last + 1 if last else 0

    def finish(self, location: str, digest: str, content: bytes = b"") -> None:
        """End an upload, with all of the blob or after all of its parts.

        Raises:
            UploadExpiredError, TransientError, RegistryError: it made no blob of it.
        """
        url = f"{location}{'&' if '?' in location else '?'}digest={quote(digest)}"
        response = self.transport.once(
            "PUT",
            url,
            self._scopes,
            body=lambda: content,
            headers={"Content-Type": _OCTETS},
            patience=_STORING,
        )
        if not succeeded(response):
            raise self._unfinished(response)
        if (told := response.headers.get("Docker-Content-Digest", digest)) != digest:
            raise RegistryError(f"{self.repository}: made {told} of the blob {digest}")

    def cancel(self, location: str) -> None:
        """Give an upload up; if the registry does not listen, it expires there."""
        with suppress(TransientError, RegistryError):
            self.transport.once("DELETE", location, self._scopes, patience=_ASIDE)

    def _unfinished(self, response: requests.Response) -> Exception:
        if response.status_code in _LOST:
            return UploadExpiredError(str(self.transport.refused(response, "an upload")))
        return self.transport.refused(response, f"an upload to {self.repository.name}")

    def _location(self, response: requests.Response) -> str:
        location = response.headers.get("Location")
        if not location:
            raise RegistryError(f"{self.repository.registry}: answers an upload without Location")
        return self.transport.resolved(location, response.url)

    def _url(self, kind: str, last: str) -> str:
        return self.transport.url(f"{self.repository.name}/{kind}/{last}")
