"""Requests to one registry: authorized, tried again where that can help, and errors made clear.

Specification: OCI Distribution Spec 1.1, "Error codes".
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from images import docker_auth, jsontext, web
from images.errors import LoginError, RegistryError
from images.registry_auth import Authorization, Header, Scopes, login_remedy
from images.retry import PASSING, PassingError, Policy, retry_after

if TYPE_CHECKING:
    import requests
    from _typeshed import SupportsRead

    Body = bytes | SupportsRead[bytes]

# Also what one send() of a body may take: sending goes by the connect timeout.
_CONNECT_TIMEOUT = 20.0
_READ_TIMEOUT = 120.0
_API_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Registries whose name is not where their API is."""
_LONGEST_REASON = 300  # characters of a registry's own words


class Exchange:
    """Requests and answers; shared by all threads of a push or a pull.

    Args:
        registry: `HOST[:PORT]`.
        plain_http: talk without TLS.
        policy: how often and after which pauses something is tried again.

    Attributes:
        answered: whether it has ever answered.
    """

    def __init__(self, registry: str, *, plain_http: bool, policy: Policy) -> None:
        self.registry = registry
        self.policy = policy
        self._host = _API_HOSTS.get(registry, registry)
        self._scheme = "http" if plain_http else "https"
        self._plain_http = plain_http
        self._session = web.session()
        self._cut = web.breaker(self._session)
        self._authorization = Authorization(
            registry, self._session, plain_http=plain_http, login_for=docker_auth.login_for
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
        return f"{self._scheme}://{self._host}/v2/{path}"

    def resolved(self, location: str, base: str) -> str:
        """The address that a Location header names; it may be relative.

        A registry behind a proxy that ends TLS often names itself with http: what it means is the
        way by which it was asked.

        Raises:
            RegistryError: it leads elsewhere without TLS.
        """
        url = urljoin(base, location)
        parts = urlsplit(url)
        if parts.netloc == urlsplit(base).netloc and parts.netloc == self._host:
            return parts._replace(scheme=self._scheme).geturl()
        if parts.scheme != "https" and not self._plain_http:
            raise RegistryError(f"{self.registry}: wants an upload to go to {web.public_url(url)}")
        return url

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
            PassingError: the connection broke, or the answer may be another one the next time.
            LoginError: the registry does not accept who we are.
            RegistryError: it is none, or its certificate is not trusted.
        """
        refused = 0
        while True:
            own = refused > 1  # the first time a token may be wanted, or have come to its end
            self.check_stopped()
            ours = urlsplit(url).netloc == self._host  # a login is for nobody else
            header = self._authorization.header(scopes, own=own) if ours else None
            response = self._send(method, url, header, body, headers, patience, streamed)
            if response.status_code in PASSING:
                after = retry_after(response.headers.get("Retry-After"))
                raise PassingError(_told(response), after)
            if response.status_code != 401 or not ours:
                return response
            response.close()
            challenge = response.headers.get("WWW-Authenticate", "")
            self._authorization.answer(challenge, header, own=own)
            refused += 1

    def _send(
        self,
        method: str,
        url: str,
        header: str | None,
        body: Callable[[], Body] | None,
        headers: Mapping[str, str] | None,
        patience: float,
        streamed: bool,
    ) -> requests.Response:
        import requests

        try:
            response = self._session.request(
                method,
                url,
                data=body() if body else None,
                headers=dict(headers or {}),
                auth=Header(header),
                timeout=(_CONNECT_TIMEOUT, patience),
                # A body cannot be sent twice, and only reads are redirected to storage.
                allow_redirects=method in ("GET", "HEAD"),
                stream=streamed,
            )
        except requests.RequestException as error:
            self.check_stopped()
            if not self.answered and _is_distrust(error):
                raise self._distrusted(error) from None
            raise PassingError(_reason(error)) from None
        except OSError as error:  # a CA bundle that is not there
            raise RegistryError(f"{self.registry}: {error}") from None
        self.answered = True
        return response

    @contextmanager
    def streaming(
        self, url: str, scopes: Scopes, headers: Mapping[str, str]
    ) -> Iterator[requests.Response]:
        """One GET whose body is read, in pieces, inside the context.

        Raises:
            PassingError: as `once`, or the connection broke while the body was read.
            LoginError, RegistryError: as `once`.
        """
        import requests
        import urllib3

        response = self.once("GET", url, scopes, headers=headers, streamed=True)
        try:
            yield response
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            self.check_stopped()
            raise PassingError(_reason(error)) from None
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
            except PassingError as error:
                failures += 1
                self.pause(failures, error, f"{method} {urlsplit(url).path}")

    def pause(self, failures: int, error: PassingError, doing: str) -> None:
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
        if failures >= (self.policy.attempts if self.answered else self.policy.strangers):
            return False
        self._stop.wait(self.policy.pause(failures, after))
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
        return RegistryError(told)

    def _distrusted(self, error: Exception) -> RegistryError:
        reason = _reason(error)
        if "CERTIFICATE_VERIFY_FAILED" in reason or "certificate verify failed" in reason:
            return RegistryError(
                f"{self.registry}: its certificate is not trusted: {reason}",
                remedy="name the file with its authority's certificate in REQUESTS_CA_BUNDLE",
            )
        return RegistryError(
            f"{self.registry}: no TLS: {reason}",
            remedy="if that registry is meant to be asked without TLS, add --plain-http",
        )


def _is_distrust(error: Exception) -> bool:
    return any(
        isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError)
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it came from, outermost first; urllib3 hides causes in arguments."""
    yield error
    inner = [item for item in error.args if isinstance(item, BaseException)]
    following = getattr(error, "reason", None) or error.__cause__ or error.__context__
    for cause in inner or ([following] if isinstance(following, BaseException) else []):
        yield from _causes(cause)


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: the outer ones quote whole addresses."""
    innermost = list(_causes(error))[-1]
    return " ".join(web.public_text(str(innermost) or type(innermost).__name__).split())


def _told(response: requests.Response) -> str:
    """What a registry says of a failure, in one line."""
    try:
        errors = jsontext.loads(response.content)["errors"]
        words = "; ".join(f"{item['code']}: {item.get('message') or ''}" for item in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        words = response.reason or ""
    words = " ".join(web.public_text(words).split())[:_LONGEST_REASON]
    return f"HTTP {response.status_code} {words}".rstrip(" :")
