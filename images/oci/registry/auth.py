"""Authorization for one registry: Basic, or Bearer tokens that are renewed when they expire.

Specification: RFC 9110, section 11; the token protocol of Distribution (registry token
authentication, and its OAuth2 form for identity tokens), which every registry with tokens speaks.
Some token servers lack the OAuth2 form: they are asked in the other one then.
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
"""What a token is to allow, e.g. `("repository:team/app:pull,push",)`."""

_LIFETIME = 60.0  # seconds, where the server does not say: the protocol's own default
_MARGIN = 10.0  # seconds before its end at which a token is no longer used
_TIMEOUT = (20.0, 60.0)
_CLIENT = "roll-sglang-images"
_NO_OAUTH = frozenset({400, 401, 403, 404, 405, 501})
"""What token servers without the OAuth2 form answer to it; some take it for a wrong login."""
_TOKEN_USER = "<token>"  # noqa: S105  # a name
"""The user name of those who have an identity token alone, as Docker's configuration has it."""


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    until: float  # on the monotonic clock

    def is_fresh(self) -> bool:
        return time.monotonic() < self.until


class Authorization:
    """What goes into the Authorization header; shared by all threads of a push.

    Args:
        registry: `HOST[:PORT]`, as in messages and in Docker's configuration.
        session: for requests to the token server.
        home: the registry's origin; without TLS, its token server may be asked without it, too.
        login_for: finds the login; called once, and only when the registry wants one.
        say: takes a line for people.
    """

    def __init__(
        self,
        registry: str,
        session: requests.Session,
        *,
        home: Origin,
        login_for: Callable[[str], Login | None],
        say: Callable[[str], None] = output.message,
    ) -> None:
        self._registry = registry
        self._session = session
        self._home = home
        self._login_for = login_for
        self._say = say
        self._login: Login | None = None
        self._asked = False
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._told = False
        self._tokens: dict[Scopes, _Token] = {}
        self._basic: str | None = None

    def header(self, scopes: Scopes, *, own: bool = False) -> str | None:
        """The header's value; None as long as the registry has not asked for one.

        Args:
            scopes: what it is to allow.
            own: get a token for this request alone. A shared one may have come to its end through
                the other threads' requests, which says nothing about the login.

        Raises:
            LoginError: the token server refuses.
            TransientError: it cannot be reached now.
        """
        with self._lock:
            if self._basic or self._challenge is None:
                return self._basic
            return self._fetch(scopes).header if own else self._token(scopes)

    def answer(self, header: str, rejected: str | None, *, own: bool) -> None:
        """Take note of a 401.

        Args:
            header: its WWW-Authenticate.
            rejected: the header's value that it was the answer to.
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
                    remedy="use a registry's address, not that of its web pages",
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

    def _fetch(self, scopes: Scopes) -> _Token:
        from images.oci.registry import realm

        parameters = self._challenge.parameters if self._challenge else {}
        where = realm.checked(parameters["realm"], self._home, self._registry)
        self._tell(where)
        begin = time.monotonic()
        try:
            response = self._ask(where, parameters.get("service", ""), scopes)
        except RedirectError as error:
            raise RegistryError(
                f"{self._registry}: its token server {public_url(where)}: {error}",
                remedy="fix the registry's token realm: a login is sent to no other server",
            ) from None
        if response.status_code in RETRYABLE_STATUSES:
            after = retry_after(response.headers.get("Retry-After"))
            raise TransientError(f"HTTP {response.status_code} from {public_url(where)}", after)
        if response.status_code in (400, 401, 403):
            raise self._refused()
        return _token_of(response, begin, public_url(where))

    def _tell(self, where: str) -> None:
        """Say once where the login goes, if that is not what its registry's name lets expect."""
        from images.oci.registry import realm

        if not self._told and realm.is_foreign(where, self._home) and self._known_login():
            self._say(f"{self._registry}: its login goes to the token server {public_url(where)}")
        self._told = True

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

    def _send(self, method: str, where: str, header: str | None, **what: Any) -> requests.Response:
        """A request to the token server; what it holds is for that server alone."""
        import requests

        def send(url: str, ours: bool) -> requests.Response:
            if not ours:
                raise RedirectError(f"it redirects to {public_url(url)}")
            more = what if url == where else {"data": what.get("data")}
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
        if not self._asked:
            self._login, self._asked = self._login_for(self._registry), True
        return self._login

    def _refused(self) -> LoginError:
        what = (
            f"{self._registry} wants a login, and Docker's configuration holds none for it"
            if self._known_login() is None
            else f"{self._registry} does not take the login in Docker's configuration for this"
        )
        return LoginError(what, remedy=login_remedy(self._registry))


def login_remedy(registry: str) -> str:
    """How one logs in, with Docker and without."""
    return (
        f"docker login {registry}  # without Docker: "
        f"skopeo login --authfile ~/.docker/config.json {registry}"
    )


def _basic(login: Login) -> str:
    return web.basic(login.username or _TOKEN_USER, login.password or login.identity_token)


def _printable(token: Any) -> str:
    """The token, if a header can hold it: what cannot be sent would be part of an error's text."""
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise ValueError("no token")
    return token


def _token_of(response: requests.Response, begin: float, where: str) -> _Token:
    try:
        document: dict[str, Any] = untrusted_json.loads(response.content)
        value = _printable(document.get("token") or document["access_token"])
        lifetime = float(document.get("expires_in") or _LIFETIME)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RegistryError(
            f"{where}: HTTP {response.status_code} without a token",
            remedy="mend the registry's token server",
        ) from None
    # A token that hardly lives longer than the margin is used for half of its life.
    return _Token(f"Bearer {value}", begin + max(lifetime - _MARGIN, lifetime / 2))
