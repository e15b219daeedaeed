"""Requests to one registry: authorized, tried again where that can help, and errors made clear.

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

from images.errors import LoginError, RegistryError
from images.http import origin, redirect, session
from images.http.redirect import RedirectError
from images.http.retry import RETRYABLE_STATUSES, Policy, TransientError, retry_after
from images.http.session import Header
from images.oci.registry import credentials
from images.oci.registry.auth import Authorization, Scopes, login_remedy
from images.util import untrusted_json

if TYPE_CHECKING:
    import requests
    from _typeshed import SupportsRead

    Body = bytes | SupportsRead[bytes]

# Also what one send() of a body may take: sending goes by the connect timeout.
_CONNECT_TIMEOUT = 20.0
_READ_TIMEOUT = 120.0
_API_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Registries whose name is not where their API is."""
_SENT_ON = (
    "the registry sends the request there, and its login is for nobody else: is the address of the "
    "registry the right one (https or --plain-http), and the clock of this machine?"
)
_LONGEST_REASON = 300  # characters of a registry's own words


class Transport:
    """Requests and answers; shared by all threads of a push or a pull.

    Args:
        registry: `HOST[:PORT]`.
        plain_http: talk without TLS.
        policy: how often and after which pauses something is tried again.
        name: of the repository, where a login is for some repositories of the registry alone.

    Attributes:
        answered: whether it has ever answered.
    """

    def __init__(self, registry: str, *, plain_http: bool, policy: Policy, name: str = "") -> None:
        self.registry = registry
        self.policy = policy
        host = _API_HOSTS.get(registry, registry)
        self.origin = origin.of_registry(host, plain_http=plain_http)
        self._session = session.session()
        self._cut = session.breaker(self._session)
        login_for = partial(credentials.login_for, name=name, plain_http=plain_http)
        self._authorization = Authorization(
            registry, self._session, home=self.origin, login_for=login_for
        )
        self._stop = threading.Event()
        self.answered = False

    def close(self) -> None:
        """Break off: whoever waits or sends ends with CancelledError at once."""
        self._stop.set()
        self._cut()
        self._session.close()

    def check_stopped(self) -> None:
        """Raise CancelledError once `close` was called."""
        if self._stop.is_set():
            raise CancelledError

    def url(self, path: str) -> str:
        """The address of a path below `/v2/`."""
        return f"{self.origin}/v2/{path}"

    def resolved(self, location: str, base: str) -> str:
        """The address that an upload's Location header names; it may be relative.

        A registry behind a proxy often names itself with another scheme: what it means is the way
        by which it was asked.

        Raises:
            RegistryError: it is no address, or leads elsewhere without TLS.
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
        patience: float = _READ_TIMEOUT,
        streamed: bool = False,
    ) -> requests.Response:
        """One request, repeated only to be authorized.

        Args:
            method: the HTTP method.
            url: where to.
            scopes: what the request needs to be allowed.
            body: makes the body; called again when it must be sent again.
            headers: more headers.
            patience: seconds without a byte of an answer.
            streamed: leave the answer's body to the caller.

        Raises:
            TransientError: the connection broke, or the answer may be another one the next time.
            LoginError: the registry does not accept who we are.
            RegistryError: it is none, or its certificate is not trusted.
        """
        make = partial(
            self._send,
            method=method,
            body=body,
            headers=headers or {},
            patience=patience,
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
        """A request to the registry itself: nobody else gets its login, or a challenge answered."""
        refused = 0
        while True:
            own = refused > 1  # the first time a token may be wanted, or have come to its end
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
        patience: float,
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
                timeout=(_CONNECT_TIMEOUT, patience),
                allow_redirects=False,
                stream=streamed,
            )
        except requests.RequestException as error:
            self.check_stopped()
            raise self._failed(error, url) from None
        except OSError as error:  # certificates that are not there
            raise RegistryError(f"{self.registry}: {error}") from None
        self.answered = True
        if response.status_code in RETRYABLE_STATUSES:
            after = retry_after(response.headers.get("Retry-After"))
            raise TransientError(_told(response), after)
        if response.status_code == 407:
            from images.http import transport_errors

            failure = transport_errors.wants_login(url)
            raise RegistryError(f"{self.registry}: {failure.reason}", remedy=failure.remedy)
        return response

    def _failed(self, error: requests.RequestException, url: str) -> Exception:
        """What became of a request that has no answer."""
        from images.http import transport_errors

        failure = transport_errors.explained(error, url)
        if failure.final:
            there = origin.of(url)
            where = "" if there == self.origin else f"{there}: "
            return RegistryError(f"{self.registry}: {where}{failure.reason}", remedy=failure.remedy)
        if transport_errors.is_tls(error) and not self.answered:
            return RegistryError(
                f"{self.registry}: no TLS: {failure.reason}",
                remedy="if that registry is meant to be asked without TLS, add --plain-http",
            )
        return TransientError(failure.reason)

    @contextmanager
    def streaming(
        self, url: str, scopes: Scopes, headers: Mapping[str, str]
    ) -> Iterator[requests.Response]:
        """One GET whose body is read, in pieces, inside the context.

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
        """A request that does no harm when it is made twice, tried as often as the policy says.

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
            failures: in a row until now.
            error: the last one.
            doing: for the message, e.g. `sending sha256:…`.

        Raises:
            RegistryError: it was the last attempt.
        """
        if not self.wait(failures, error.after):
            raise RegistryError(
                f"{self.registry}: {doing}: {failures} attempts failed, the last one: {error}",
                remedy="check the address and the network, then run the same command: "
                "it goes on where this one ended",
            ) from None

    def wait(self, failures: int, after: float | None = None) -> bool:
        """Wait before something is asked again that may be another the next time.

        Args:
            failures: in a row until now.
            after: seconds that the registry asked for.

        Returns:
            Whether to ask again; False, at once, when the policy's attempts are used up.
        """
        if self.policy.is_exhausted(failures, reached=self.answered):
            return False
        self._stop.wait(self.policy.delay(failures, after))
        self.check_stopped()
        return True

    # -- what went wrong ---------------------------------------------------------------------------

    def refused(self, response: requests.Response, doing: str) -> RegistryError:
        """The error for an answer that is final.

        Args:
            response: the answer.
            doing: what was attempted, e.g. `a blob's upload to team/app`.
        """
        told = f"{self.registry}: {doing}: {_told(response)}"
        if response.status_code in (401, 403):
            if sent_on := self._sent_on(response):
                return RegistryError(f"{told} from {sent_on}", remedy=_SENT_ON)
            return LoginError(
                told,
                remedy="use a login that may do that, or another repository: "
                + login_remedy(self.registry),
            )
        if response.status_code == 405:
            return RegistryError(told, remedy="the registry is read-only: push to another one")
        if response.status_code == 404:
            return RegistryError(
                told, remedy="is it a registry's address, and does the repository's project exist?"
            )
        if redirect.is_redirect(response.status_code):
            location = session.public_text(response.headers.get("Location", "nowhere"))
            return RegistryError(
                f"{told}: it redirects to {location}",
                remedy="name the registry by the address that it redirects to",
            )
        return RegistryError(told)

    def _sent_on(self, response: requests.Response) -> str | None:
        """The server that answered, if that is another one than the registry."""
        there = origin.of(response.url) if response.url else self.origin
        return None if there == self.origin else str(there)


def _told(response: requests.Response) -> str:
    """What a registry says of a failure, in one line."""
    try:
        errors = untrusted_json.loads(response.content)["errors"]
        words = "; ".join(f"{item['code']}: {item.get('message') or ''}" for item in errors)
    except (ValueError, KeyError, TypeError, AttributeError, OSError):  # nor can it be read
        words = response.reason or ""
    words = " ".join(session.public_text(words).split())[:_LONGEST_REASON]
    return f"HTTP {response.status_code} {words}".rstrip(" :")
