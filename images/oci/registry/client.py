"""One repository of a registry: its manifests and blobs.

Specification: OCI Distribution Spec 1.1, "Pull", "Checking if content exists in the registry".
What changes the repository is in `images.oci.registry.manifests` and `upload_session`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from images.errors import IntegrityError, RegistryError
from images.http.redirect import is_redirect
from images.http.retry import Policy, TransientError
from images.http.session import succeeded
from images.oci.descriptor import DIGEST, MANIFEST_TYPE, digest_of
from images.oci.reference import Repository, canonical
from images.oci.registry.auth import Scopes
from images.oci.registry.refusals import NotFoundError
from images.oci.registry.transport import READ_TIMEOUT, Transport
from images.util import limits

if TYPE_CHECKING:
    import requests

    from images.oci.registry.transport import Body

_PIECE = 1 << 20
OPTIONAL_TIMEOUT = 30.0
"""Seconds after which a request that only saves work is not repeated."""

Actions = Literal["pull", "pull,push"]
"""The permissions that a token is asked for: a login that may only read gets none to write."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index from a registry, its bytes checked against its digest.

    Attributes:
        content: its bytes.
        media_type: the Content-Type of the response.
        digest: `sha256:…` of the bytes.
    """

    content: bytes
    media_type: str
    digest: str


class Registry:
    """A repository of a registry. Leaving the context cancels what is still running.

    Attributes:
        canonical: the repository in its one canonical spelling, to be compared or remembered.
        transport: the HTTP side.

    Args:
        repository: the repository.
        plain_http: use no TLS.
        policy: of retries.
        actions: the permissions that are needed.
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

    # -- requests ----------------------------------------------------------------------------------

    def url(self, path: str) -> str:
        """Return the URL of a path below the repository's name, e.g. of `manifests/v1`."""
        return self.transport.url(f"{self.repository.name}/{path}")

    def once(
        self,
        method: str,
        url: str,
        *,
        body: Callable[[], Body] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> requests.Response:
        """Make one request with the repository's permissions; see `Transport.once`."""
        return self.transport.once(
            method, url, self._scopes, body=body, headers=headers, timeout=timeout
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Make a request below the repository's name; see `Transport.call`."""
        return self.transport.call(method, self.url(path), self._scopes, body=body, headers=headers)

    def optional(
        self, method: str, url: str, *, scopes: Scopes = (), max_attempts: int | None = None
    ) -> requests.Response:
        """Make a request that only saves work: it gets less time than one that is needed.

        Args:
            method: the HTTP method; a POST has an empty body.
            url: the URL.
            scopes: permissions beyond the repository's own.
            max_attempts: fewer attempts than the policy allows.

        Raises:
            LoginError, RegistryError: as `Transport.once`, or no attempt is left.
        """
        failures, end = 0, time.monotonic() + OPTIONAL_TIMEOUT
        body = (lambda: b"") if method == "POST" else None
        scopes = (*self._scopes, *scopes)
        while True:
            try:
                return self.transport.once(method, url, scopes, body=body, timeout=OPTIONAL_TIMEOUT)
            except TransientError as error:
                failures += 1
                late = time.monotonic() > end or failures == max_attempts
                if late or not self.transport.wait(failures, error.after):
                    doing = f"{self.transport.registry}: {method} {urlsplit(url).path}"
                    raise RegistryError(f"{doing}: {failures} attempts failed: {error}") from None

    # -- manifests ---------------------------------------------------------------------------------

    def manifest_digest(self, reference: str) -> str | None:
        """Return the digest of the manifest with that tag or digest; None if there is none.

        Raises:
            RegistryError: the registry does not answer, or wants another login.
        """
        path = f"manifests/{reference}"
        accept = {"Accept": MANIFEST_TYPE}
        response = self.call("HEAD", path, headers=accept)
        if response.status_code == 404:
            return None
        digest = response.headers.get("Docker-Content-Digest", "")
        exists = succeeded(response) or is_redirect(response.status_code)
        if exists and DIGEST.fullmatch(digest):
            return digest
        # The header is a SHOULD: without it the bytes are hashed, also where a storage accepts no
        # HEAD. And the reason of a refusal is in the body, which a response to HEAD does not have.
        response = self.call("GET", path, headers=accept)
        if response.status_code == 404:
            return None
        doing = f"asking for {self.repository.name}:{reference}"
        self.transport.require_success(response, doing)
        return digest_of(response.content)

    def manifest(self, reference: str, accept: Sequence[str] = (MANIFEST_TYPE,)) -> Manifest | None:
        """Make one attempt to get the manifest with that tag or digest; None if there is none.

        Args:
            reference: a tag, or the digest that the bytes must have.
            accept: the accepted media types.

        Raises:
            IntegrityError: the bytes have another digest, or are too many for a manifest.
            TransientError: the connection broke; try again.
            RegistryError: the registry refuses, or wants another login.
        """
        url = self.url(f"manifests/{reference}")
        with self.transport.streaming(url, self._scopes, {"Accept": ", ".join(accept)}) as response:
            if response.status_code == 404:
                return None
            named = f"{self.repository}{'@' if ':' in reference else ':'}{reference}"
            self.transport.require_success(response, f"getting the manifest {named}")
            content = b""
            for piece in response.iter_content(_PIECE):
                content += piece
                if len(content) > limits.DOCUMENT:
                    raise IntegrityError(f"{named}: larger than {limits.DOCUMENT} bytes")
            promised = response.headers.get("Docker-Content-Digest", "")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        found = digest_of(content)
        for wanted in (reference if ":" in reference else "", promised):
            if wanted.startswith("sha256:") and wanted != found:
                raise IntegrityError(f"{named}: its bytes have the digest {found}, not {wanted}")
        return Manifest(content, media_type, found)

    # -- blobs -------------------------------------------------------------------------------------

    def has_blob(self, digest: str, size: int) -> bool:
        """Return whether the blob is there.

        Raises:
            RegistryError: the registry does not answer, or wants another login.
        """
        response = self.optional("HEAD", self.url(f"blobs/{digest}"))
        if response.status_code == 404:
            return False
        if is_redirect(response.status_code):  # to a storage that accepts no HEAD
            return True
        self.transport.require_success(response, f"asking {self.repository.name} for a blob")
        # The header is missing where a proxy compresses; a blob of another size is a broken one.
        return response.headers.get("Content-Length", str(size)) == str(size)

    @contextmanager
    def blob(self, digest: str, begin: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Make one attempt to read a blob; yields the offset of its start, and its pieces.

        Nothing is checked: `images.oci.registry.download` does that. A server that the registry
        redirects to gets no login.

        Args:
            digest: of the blob.
            begin: bytes that have arrived already. A registry that cannot resume starts at 0.

        Raises:
            NotFoundError: the repository has no such blob.
            TransientError: the connection broke, also while the pieces are read; try again.
            RegistryError: the registry refuses, or wants another login.
        """
        # No content encoding: it would change bytes and range offsets.
        headers = {"Accept-Encoding": "identity"}
        if begin:
            headers["Range"] = f"bytes={begin}-"
        doing = f"getting the blob {digest[:19]} of {self.repository.name}"
        url = self.url(f"blobs/{digest}")
        with self.transport.streaming(url, self._scopes, headers) as response:
            if response.status_code == 404:
                raise NotFoundError(f"{self.repository}: has no blob {digest}")
            self.transport.require_success(response, doing)
            start = begin if response.status_code == 206 else 0
            sent = response.headers.get("Content-Range", "")
            if start and not sent.startswith(f"bytes {start}-"):
                raise RegistryError(f"{self.repository.registry}: {doing}: sends {sent!r} instead")
            yield start, response.raw.stream(_PIECE, decode_content=False)
