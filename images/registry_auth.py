"""Authorization for one registry: Basic, or Bearer tokens that are renewed when they expire.

Specification: RFC 9110, section 11; the token protocol of Distribution (registry token
authentication, and its OAuth2 form for identity tokens), which every registry with tokens speaks.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from images import jsontext
from images.errors import LoginError, RegistryError
from images.retry import PASSING, PassingError, retry_after
from images.web import public_url

if TYPE_CHECKING:
    import requests

    from images.docker_auth import Login

Scopes = tuple[str, ...]
"""What a token is to allow, e.g. `("repository:team/app:pull,push",)`."""

_LIFETIME = 60.0  # seconds, where the server does not say: the protocol's own default
_MARGIN = 10.0  # seconds before its end at which a token is no longer used
_TIMEOUT = (20.0, 60.0)
_CLIENT = "roll-sglang-images"
_CHALLENGE = re.compile(r"(?:^|,)\s*(Bearer|Basic)\s+", re.IGNORECASE)


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
        plain_http: whether a token server may be asked without TLS, too.
        login_for: finds the login; called once, and only when the registry wants one.
    """

    def __init__(
        self,
        registry: str,
        session: requests.Session,
        *,
        plain_http: bool,
        login_for: Callable[[str], Login | None],
    ) -> None:
        self._registry = registry
        self._session = session
        self._plain_http = plain_http
        self._login_for = login_for
        self._login: Login | None = None
        self._asked = False
        self._lock = threading.Lock()
        self._challenge: Mapping[str, str] | None = None
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
            PassingError: it cannot be reached now.
        """
        with self._lock:
            if self._basic or self._challenge is None:
                return self._basic
            return self._fetch(scopes).header if own else self._token(scopes)

    def answer(self, challenge: str, rejected: str | None, *, own: bool) -> None:
        """Take note of a 401.

        Args:
            challenge: its WWW-Authenticate.
            rejected: the header's value that it was the answer to.
            own: whether that value was made for this very request.

        Raises:
            LoginError: another attempt would not help.
            RegistryError: the challenge is not understood.
        """
        with self._lock:
            if own or (rejected and rejected == self._basic):
                raise self._refused()
            self._tokens = {
                scopes: token for scopes, token in self._tokens.items() if token.header != rejected
            }
            scheme, parameters = _parsed(challenge)
            if scheme == "bearer" and parameters.get("realm"):
                self._challenge = parameters
            elif scheme == "basic":
                self._basic = self._basic_header()
            else:
                raise RegistryError(
                    f"{self._registry}: wants an authorization that is neither Basic nor Bearer",
                    remedy="use a registry's address, not that of its web pages",
                )

    def _basic_header(self) -> str:
        login = self._known_login()
        if login is None or not login.username:
            raise self._refused()
        return _basic(login)

    def _token(self, scopes: Scopes) -> str:
        found = self._tokens.get(scopes)
        if found is None or not found.is_fresh():
            found = self._tokens[scopes] = self._fetch(scopes)
        return found.header

    def _fetch(self, scopes: Scopes) -> _Token:
        challenge = self._challenge or {}
        realm = challenge["realm"]
        if urlsplit(realm).scheme != "https" and not self._plain_http:
            raise RegistryError(
                f"{self._registry}: its token server is without TLS: {public_url(realm)}",
                remedy="mend the registry's token realm, or add --plain-http where that is meant",
            )
        begin = time.monotonic()
        response = self._ask(realm, challenge.get("service", ""), scopes)
        if response.status_code in PASSING:
            after = retry_after(response.headers.get("Retry-After"))
            raise PassingError(f"HTTP {response.status_code} from {public_url(realm)}", after)
        if response.status_code in (400, 401, 403):
            raise self._refused()
        return _token_of(response, begin, public_url(realm))

    def _ask(self, realm: str, service: str, scopes: Scopes) -> requests.Response:
        import requests

        login = self._known_login()
        query: list[tuple[str, str]] = [("service", service)] if service else []
        try:
            if login is not None and login.identity_token:
                form = [*query, ("grant_type", "refresh_token"), ("client_id", _CLIENT)]
                form += [("scope", " ".join(scopes)), ("refresh_token", login.identity_token)]
                return self._session.post(
                    realm, data=form, auth=Header(None), timeout=_TIMEOUT, allow_redirects=False
                )
            query += [("scope", scope) for scope in scopes]
            basic = _basic(login) if login is not None else None
            return self._session.get(
                realm, params=query, auth=Header(basic), timeout=_TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            # Its text would hold the whole address.
            reason = f"{type(error).__name__} from {public_url(realm)}"
            raise PassingError(reason) from None

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


class Header:
    """Puts a given Authorization header, or none, on a request.

    Handed to requests as `auth`: it would take a login from ~/.netrc otherwise.
    """

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request, with the header."""
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


def _basic(login: Login) -> str:
    from base64 import b64encode

    pair = f"{login.username}:{login.password}"
    return "Basic " + b64encode(pair.encode()).decode("ascii")


def _parsed(challenge: str) -> tuple[str, dict[str, str]]:
    """Scheme, in lower case, and parameters of the best challenge: Bearer before Basic."""
    from urllib.request import parse_http_list, parse_keqv_list

    pieces = _CHALLENGE.split(challenge)
    texts = {name.lower(): text for name, text in zip(pieces[1::2], pieces[2::2], strict=True)}
    for scheme in ("bearer", "basic"):
        if scheme in texts:
            pairs = [part for part in parse_http_list(texts[scheme]) if "=" in part]
            return scheme, {name.lower(): value for name, value in parse_keqv_list(pairs).items()}
    return "", {}


def _token_of(response: requests.Response, begin: float, where: str) -> _Token:
    try:
        document: dict[str, Any] = jsontext.loads(response.content)
        value = document.get("token") or document["access_token"]
        lifetime = float(document.get("expires_in") or _LIFETIME)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RegistryError(
            f"{where}: HTTP {response.status_code} without a token",
            remedy="mend the registry's token server",
        ) from None
    # A token that hardly lives longer than the margin is used for half of its life.
    return _Token(f"Bearer {value}", begin + max(lifetime - _MARGIN, lifetime / 2))
