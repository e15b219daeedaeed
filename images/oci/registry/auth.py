"""Authorization for one registry: Basic, or Bearer tokens that are renewed when they expire.

Specification: RFC 9110, section 11; the token protocol of Distribution (registry token
authentication, and its OAuth2 form for identity tokens), which every registry with tokens supports.
Some token servers lack the OAuth2 form: they get a request in the other one then.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from images.errors import LoginError, RegistryError
from images.http import redirect
from images.http import session as web
from images.http.origin import Origin
from images.http.redirect import RedirectError
from images.http.retry import RETRYABLE_STATUSES, TransientError, retry_after
from images.http.session import Header, public_url
from images.util import output, untrusted_json

if TYPE_CHECKING:
    import requests

    from images.oci.registry.challenge import Challenge
    from images.oci.registry.credentials import Login

Scopes = tuple[str, ...]
"""Permissions of a token, e.g. `("repository:team/app:pull,push",)`."""

_LIFETIME = 60.0  # seconds, the protocol's default
_MARGIN = 10.0  # seconds before it expires, from which on a token is not used
_TIMEOUT = (20.0, 60.0)
_CLIENT = "roll-sglang-images"
_NO_OAUTH = frozenset({400, 401, 403, 404, 405, 501})
"""Returned by token servers without the OAuth2 form; some take it for a wrong login."""
_TOKEN_USER = "<token>"  # noqa: S105  # a name
"""User name in Docker's configuration where there is only an identity token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token for the Authorization header.

    Attributes:
        header: the header's value.
        until: when it is no longer used, on the monotonic clock.
    """

    header: str
    until: float

    def is_fresh(self) -> bool:
        """Return whether the token may still be used."""
        return time.monotonic() < self.until


class Authorization:
    """The Authorization header for a registry; shared by all threads of a push.

    Args:
        registry: `HOST[:PORT]`, as in messages and in Docker's configuration.
        session: for requests to the token server.
        home: the registry's origin; only without TLS, its token server may be without it, too.
        login_for: finds the login; called once, and only when the registry wants one.
        log: prints a line for the user.
    """

    def __init__(
        self,
        registry: str,
        session: requests.Session,
        *,
        home: Origin,
        login_for: Callable[[str], Login | None],
        log: Callable[[str], None] = output.message,
    ) -> None:
        self._registry = registry
        self._session = session
        self._home = home
        self._login_for = login_for
        self._log = log
        self._login: Login | None = None
        self._searched = False
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._reported = False
        self._tokens: dict[Scopes, Token] = {}
        self._basic: str | None = None

    def header(self, scopes: Scopes, *, own: bool = False) -> str | None:
        """Return the header's value; None as long as the registry has not asked for one.

        Args:
            scopes: the permissions that are needed.
            own: get a token for this request alone. A shared one may have expired through the
                other threads' requests, which does not mean that the login is wrong.

        Raises:
            LoginError: the token server refuses the login.
            TransientError: it cannot be reached now.
        """
        with self._lock:
            if self._basic or self._challenge is None:
                return self._basic
            return self._fetch(scopes).header if own else self._token(scopes)

    def answer(self, header: str, rejected: str | None, *, own: bool) -> None:
        """Process a 401.

        Args:
            header: its WWW-Authenticate.
            rejected: the Authorization header that it is the response to.
            own: whether that value was made for this very request.

        Raises:
            LoginError: another attempt would not help.
            RegistryError: the challenge is not understood.
        """
        from images.oci.registry import challenge

        with self._lock:
            if own or (rejected and rejected == self._basic):
                raise self._refused()
            self._tokens = {
                scopes: token for scopes, token in self._tokens.items() if token.header != rejected
            }
            wanted = challenge.best(header)
            if wanted is None:
                raise RegistryError(
                    f"{self._registry}: wants an authorization that is neither Basic nor Bearer",
                    remedy="use the registry's address, not that of its web pages",
                )
            if wanted.scheme == "bearer":
                self._challenge = wanted
            else:
                self._basic = self._basic_header()

    def _basic_header(self) -> str:
        login = self._known_login()
        if login is None:
            raise self._refused()
        return _basic(login)

    def _token(self, scopes: Scopes) -> str:
        found = self._tokens.get(scopes)
        if found is None or not found.is_fresh():
            found = self._tokens[scopes] = self._fetch(scopes)
        return found.header

    def _fetch(self, scopes: Scopes) -> Token:
        from images.oci.registry import realm

        parameters = self._challenge.parameters if self._challenge else {}
        where = realm.checked(parameters["realm"], self._home, self._registry)
        self._report(where)
        begin = time.monotonic()
        try:
            response = self._ask(where, parameters.get("service", ""), scopes)
        except RedirectError as error:
            raise RegistryError(
                f"{self._registry}: its token server {public_url(where)}: {error}",
                remedy="fix the registry's token realm: the login is sent to no other server",
            ) from None
        if response.status_code in RETRYABLE_STATUSES:
            after = retry_after(response.headers.get("Retry-After"))
            raise TransientError(f"HTTP {response.status_code} from {public_url(where)}", after)
        if response.status_code in (400, 401, 403):
            raise self._refused()
        return parse_token(response, begin, public_url(where))

    def _report(self, where: str) -> None:
        """Report once where the login is sent, if that is another domain than the registry's."""
        from images.oci.registry import realm

        if not self._reported and realm.is_foreign(where, self._home) and self._known_login():
            self._log(
                f"{self._registry}: its login is sent to the token server {public_url(where)}"
            )
        self._reported = True

    def _ask(self, where: str, service: str, scopes: Scopes) -> requests.Response:
        login = self._known_login()
        query: list[tuple[str, str]] = [("service", service)] if service else []
        if login is not None and login.identity_token:
            form = [*query, ("grant_type", "refresh_token"), ("client_id", _CLIENT)]
            form += [("scope", " ".join(scopes)), ("refresh_token", login.identity_token)]
            response = self._send("POST", where, None, data=form)
            if response.status_code not in _NO_OAUTH:
                return response
        query += [("scope", scope) for scope in scopes]
        return self._send("GET", where, _basic(login) if login else None, params=query)

    def _send(
        self, method: str, where: str, header: str | None, **content: Any
    ) -> requests.Response:
        """Make a request to the token server; its content is sent to that server only."""
        import requests

        def send(url: str, trusted: bool) -> requests.Response:
            if not trusted:
                raise RedirectError(f"it redirects to {public_url(url)}")
            more = content if url == where else {"data": content.get("data")}
            return self._session.request(
                method, url, auth=Header(header), timeout=_TIMEOUT, allow_redirects=False, **more
            )

        try:
            return redirect.follow(send, method, where)
        except requests.RequestException as error:
            from images.http import transport_errors

            failure = transport_errors.explained(error, where)
            reason = f"{public_url(where)}: {failure.reason}"
            if failure.final:
                raise RegistryError(f"{self._registry}: {reason}", remedy=failure.remedy) from None
            raise TransientError(reason) from None

    def _known_login(self) -> Login | None:
        if not self._searched:
            self._login, self._searched = self._login_for(self._registry), True
        return self._login

    def _refused(self) -> LoginError:
        message = (
            f"{self._registry} wants a login, and Docker's configuration contains none for it"
            if self._known_login() is None
            else f"{self._registry} refuses the login in Docker's configuration for this"
        )
        return LoginError(message, remedy=login_remedy(self._registry))


def login_remedy(registry: str) -> str:
    """Return the command that logs in, with Docker and without."""
    return (
        f"docker login {registry}  # without Docker: "
        f"skopeo login --authfile ~/.docker/config.json {registry}"
    )


def _basic(login: Login) -> str:
    return web.basic(login.username or _TOKEN_USER, login.password or login.identity_token)


def _printable(token: Any) -> str:
    """Return the token if it fits into a header; otherwise an error's text would contain it."""
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise ValueError("no token")
    return token


def parse_token(response: requests.Response, begin: float, where: str) -> Token:
    """Parse the response of a token server.

    Args:
        response: the response.
        begin: when the request was made, on the monotonic clock.
        where: the token server, for messages.

    Raises:
        RegistryError: it contains no token.
    """
    try:
        document: dict[str, Any] = untrusted_json.loads(response.content)
        value = _printable(document.get("token") or document["access_token"])
        lifetime = float(document.get("expires_in") or _LIFETIME)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RegistryError(
            f"{where}: HTTP {response.status_code} without a token",
            remedy="fix the registry's token server",
        ) from None
    # A token with hardly more lifetime than the margin is used for half of it.
    return Token(f"Bearer {value}", begin + max(lifetime - _MARGIN, lifetime / 2))
