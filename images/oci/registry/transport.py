"""Requests to one registry: authorized, retried where that can help, and errors with a remedy.

Specification: OCI Distribution Spec 1.1, "Error codes".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from images.errors import RegistryError
from images.http import origin, redirect, session
from images.http.redirect import RedirectError
from images.http.retry import RETRYABLE_STATUSES, Policy, TransientError, retry_after
from images.http.session import Header, succeeded
from images.oci.registry import credentials, refusals
from images.oci.registry.auth import Authorization, Scopes, login_remedy
from images.oci.registry.refusals import DeniedError, RefusedError

if TYPE_CHECKING:
    import requests
    from _typeshed import SupportsRead

    Body = bytes | SupportsRead[bytes]

# Also the limit of one send() of a body: requests applies the connect timeout to sending.
_CONNECT_TIMEOUT = 20.0
READ_TIMEOUT = 120.0
_API_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Hosts of registries whose API is at another host than their name."""
_REDIRECTED = (
    "the registry redirects the request there, without its login: check the registry's address "
    "(https or --plain-http) and the clock of this machine"
)
_REMEDIES = {
    404: "check that it is a registry's address, and that the repository's project exists",
    405: "the registry is read-only: push to another one",
}


class Transport:
    """The HTTP side of a registry; shared by all threads of a push or a pull.

    Args:
        registry: `HOST[:PORT]`.
        plain_http: talk without TLS.
        policy: of retries.
        name: of the repository: a login may be for some repositories of the registry alone.

    Attributes:
        answered: whether the registry has ever answered.
    """

    def __init__(self, registry: str, *, plain_http: bool, policy: Policy, name: str = "") -> None:
        self.registry = registry
        self.policy = policy
        host = _API_HOSTS.get(registry, registry)
        self.origin = origin.of_registry(host, plain_http=plain_http)
        self._session = session.session()
        self._cancel = session.canceller(self._session)
        login_for = partial(credentials.login_for, name=name, plain_http=plain_http)
        self._authorization = Authorization(
            registry, self._session, home=self.origin, login_for=login_for
        )
        self._stop = threading.Event()
        self.answered = False

    def close(self) -> None:
        """Cancel: threads that wait or send end with CancelledError at once."""
        self._stop.set()
        self._cancel()
        self._session.close()

    def check_stopped(self) -> None:
        """Raise CancelledError once `close` was called."""
        if self._stop.is_set():
            raise CancelledError

    def url(self, path: str) -> str:
        """Return the URL of a path below `/v2/`."""
        return f"{self.origin}/v2/{path}"

    def resolved(self, location: str, base: str) -> str:
        """Return the URL in the Location header of an upload; it may be relative.

        A registry behind a proxy often names itself with another scheme: it means the one by
        which it was reached.

        Raises:
            RegistryError: it is no URL of HTTP, or one of another server without TLS.
        """
        try:
            url = redirect.resolved(location, base, self.origin)
        except RedirectError as error:
            raise RegistryError(f"{self.registry}: an upload: {error}") from None
        there = origin.of(url)
        return (
            f"{self.origin}{url.removeprefix(str(there))}" if there.is_beside(self.origin) else url
        )

    # -- one request -------------------------------------------------------------------------------

    def once(
        self,
        method: str,
        url: str,
        scopes: Scopes,
        *,
        body: Callable[[], Body] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = READ_TIMEOUT,
        streamed: bool = False,
    ) -> requests.Response:
        """Make one request, repeated only to be authorized.

        Args:
            method: the HTTP method.
            url: the URL.
            scopes: the permissions that the request needs.
            body: makes the body; called again when it must be sent again.
            headers: more headers.
            timeout: seconds without a byte of the response.
            streamed: leave the response's body to the caller.

        Raises:
            TransientError: the connection broke, or the next attempt may be answered otherwise.
            LoginError: the registry does not accept the login.
            RegistryError: the host is no registry, or its certificate is not trusted.
        """
        make = partial(
            self._send,
            method=method,
            body=body,
            headers=headers or {},
            timeout=timeout,
            streamed=streamed,
        )
        own = origin.of(url) == self.origin  # an upload may go elsewhere

        def send(where: str, home: bool) -> requests.Response:
            return self._authorized(make, where, scopes) if own and home else make(where, None)

        try:
            return redirect.follow(send, method, url)
        except RedirectError as error:
            raise RegistryError(
                f"{self.registry}: {method} {urlsplit(url).path}: {error}"
            ) from None

    def _authorized(
        self, make: Callable[[str, str | None], requests.Response], url: str, scopes: Scopes
    ) -> requests.Response:
        """Make a request to the registry itself, the only server that gets its login."""
        refused = 0
        while True:
            own = refused > 1  # the first 401 may ask for a token, or be of an expired one
            header = self._authorization.header(scopes, own=own)
            response = make(url, header)
            if response.status_code != 401:
                return response
            response.close()
            challenge = response.headers.get("WWW-Authenticate", "")
            self._authorization.answer(challenge, header, own=own)
            refused += 1

    def _send(
        self,
        url: str,
        header: str | None,
        *,
        method: str,
        body: Callable[[], Body] | None,
        headers: Mapping[str, str],
        timeout: float,
        streamed: bool,
    ) -> requests.Response:
        import requests

        self.check_stopped()
        try:
            response = self._session.request(
                method,
                url,
                data=body() if body else None,
                headers=dict(headers),
                auth=Header(header),
                timeout=(_CONNECT_TIMEOUT, timeout),
                allow_redirects=False,
                stream=streamed,
            )
        except requests.RequestException as error:
            self.check_stopped()
            raise self._failed(error, url) from None
        except OSError as error:  # the file with certificates is missing
            raise RegistryError(f"{self.registry}: {error}") from None
        self.answered = True
        if response.status_code in RETRYABLE_STATUSES:
            after = retry_after(response.headers.get("Retry-After"))
            raise TransientError(refusals.of(response).summary, after)
        if response.status_code == 407:
            from images.http import transport_errors

            failure = transport_errors.wants_login(url)
            raise RegistryError(f"{self.registry}: {failure.reason}", remedy=failure.remedy)
        return response

    def _failed(self, error: requests.RequestException, url: str) -> Exception:
        """Return the error for a request without a response."""
        from images.http import transport_errors

        failure = transport_errors.explained(error, url)
        if failure.final:
            there = origin.of(url)
            where = "" if there == self.origin else f"{there}: "
            return RegistryError(f"{self.registry}: {where}{failure.reason}", remedy=failure.remedy)
        if transport_errors.is_tls(error) and not self.answered:
            return RegistryError(
                f"{self.registry}: no TLS: {failure.reason}",
                remedy="if the registry is meant to be used without TLS, add --plain-http",
            )
        return TransientError(failure.reason)

    @contextmanager
    def streaming(
        self, url: str, scopes: Scopes, headers: Mapping[str, str]
    ) -> Iterator[requests.Response]:
        """Make one GET whose body is read, in pieces, inside the context.

        Raises:
            TransientError: as `once`, or the connection broke while the body was read.
            LoginError, RegistryError: as `once`.
        """
        import requests
        import urllib3

        response = self.once("GET", url, scopes, headers=headers, streamed=True)
        try:
            yield response
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            from images.http import transport_errors

            self.check_stopped()
            raise TransientError(transport_errors.innermost(error)) from None
        finally:
            response.close()

    def call(
        self,
        method: str,
        url: str,
        scopes: Scopes,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Make a request that may be repeated, as often as the policy allows.

        Raises:
            LoginError, RegistryError: as `once`, or the attempts are used up.
        """
        failures = 0
        while True:
            try:
                made = (lambda: body) if body is not None else None
                return self.once(method, url, scopes, body=made, headers=headers)
            except TransientError as error:
                failures += 1
                self.pause(failures, error, f"{method} {urlsplit(url).path}")

    def pause(self, failures: int, error: TransientError, doing: str) -> None:
        """Wait before the next attempt.

        Args:
            failures: consecutive ones so far.
            error: the last one.
            doing: for the message, e.g. `sending sha256:…`.

        Raises:
            RegistryError: no attempt is left.
        """
        if not self.wait(failures, error.after):
            raise RegistryError(
                f"{self.registry}: {doing}: {failures} attempts failed, the last one: {error}",
                remedy="check the address and the network, then run the same command: "
                "it resumes where this one ended",
            ) from None

    def wait(self, failures: int, after: float | None = None) -> bool:
        """Wait before a request is repeated.

        Args:
            failures: consecutive ones so far.
            after: seconds that the registry asked for.

        Returns:
            Whether to repeat it; False, at once, when no attempt is left.
        """
        if self.policy.is_exhausted(failures, reached=self.answered):
            return False
        self._stop.wait(self.policy.delay(failures, after))
        self.check_stopped()
        return True

    # -- refusals ----------------------------------------------------------------------------------

    def require_success(self, response: requests.Response, doing: str) -> None:
        """Raise the error of `refused` unless the response is a success."""
        if not succeeded(response):
            raise self.refused(response, doing)

    def refused(self, response: requests.Response, doing: str) -> RefusedError:
        """Return the error for a response that refuses a request for good.

        Args:
            response: the response.
            doing: what was attempted, e.g. `a blob's upload to team/app`.
        """
        refusal = refusals.of(response)
        message = f"{self.registry}: {doing}: {refusal.summary}"
        if refusal.status in (401, 403):
            if other := self._other_server(response):
                return RefusedError(f"{message} from {other}", refusal, remedy=_REDIRECTED)
            remedy = "use a login that may do that, or another repository: "
            return DeniedError(message, refusal, remedy=remedy + login_remedy(self.registry))
        if redirect.is_redirect(refusal.status):
            location = session.public_text(response.headers.get("Location", "nowhere"))
            return RefusedError(
                f"{message}: it redirects to {location}",
                refusal,
                remedy="name the registry by the address that it redirects to",
            )
        return RefusedError(message, refusal, remedy=_REMEDIES.get(refusal.status))

    def _other_server(self, response: requests.Response) -> str | None:
        """Return the server that answered, if it is not the registry itself."""
        there = origin.of(response.url) if response.url else self.origin
        return None if there == self.origin else str(there)
