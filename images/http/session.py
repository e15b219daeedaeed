"""What every HTTP client here shares: the session, who it says it is, addresses fit to be shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from images.http import responses

if TYPE_CHECKING:
    import ssl

    import requests

_CONNECTIONS = 32  # kept open to one host


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


def basic(user: str, password: str) -> str:
    """The Authorization header of a user name and a password (RFC 7617)."""
    from base64 import b64encode

    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode('ascii')}"


def without_login(url: str) -> tuple[str, str | None]:
    """An address without user name and password, and the Authorization header that they make."""
    parts = urlsplit(url)
    given, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = given.partition(":")
    return parts._replace(netloc=host).geturl(), basic(unquote(user), unquote(password))


def session(context: Callable[[str], ssl.SSLContext] | None = None) -> requests.Session:
    """A session whose redirects `images.http.redirect` is to follow.

    Args:
        context: what decides about certificates, for an address; always the same one for one host.
            It is asked when the first connection with TLS is made.
    """
    from functools import cache
    from http.cookiejar import DefaultCookiePolicy

    import requests
    from requests.adapters import HTTPAdapter

    @cache  # for all connections: to read the certificates takes longer than to shake hands
    def checked() -> ssl.SSLContext:
        from images.http import certificates

        return certificates.context()

    tls = context or (lambda _: checked())

    class Adapter(HTTPAdapter):
        def build_connection_pool_key_attributes(
            self, request: Any, verify: Any, cert: Any = None
        ) -> tuple[Any, Any]:
            host, pool = super().build_connection_pool_key_attributes(request, True, None)
            secure = host["scheme"] == "https"
            return host, {**pool, "ssl_context": tls(request.url)} if secure else pool

        def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
            if url.lower().startswith("https"):
                conn.cert_reqs = tls(url).verify_mode

        def proxy_manager_for(self, proxy: Any, **more: Any) -> Any:
            if proxy.lower().startswith("https://"):
                more["proxy_ssl_context"] = checked()
            return super().proxy_manager_for(proxy, **more)

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:
            # Without this it prepares the next request even if it is not to make it: reads
            # ~/.netrc for the new host, and all of the answer's body.
            return None

    made = Session()
    # A cookie is for all ports of a host, and a registry with web pages takes one for a person's
    # visit. Clients of registries, and uv, keep none.
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    for scheme in ("https://", "http://"):
        made.mount(scheme, Adapter(pool_maxsize=_CONNECTIONS))
    made.hooks["response"].append(_bound)
    return made


def _bound(response: requests.Response, *, stream: bool = False, **_: Any) -> None:
    """Bound an answer, unless it is what was asked for and its reader counts for himself.

    What a failure or a redirect says is read whole, however it was asked for.
    """
    if not (stream and succeeded(response)):
        responses.bound(response)


def succeeded(response: requests.Response) -> bool:
    """Whether it was done: any 2xx says so (RFC 9110, section 15.3)."""
    return 200 <= response.status_code < 300


def breaker(session: requests.Session) -> Callable[[], None]:
    """A function that cuts the session's connections: who waits on one gets an error at once.

    Without it, a thread that waits for a stalled server ends only by its timeout, and a person's
    Ctrl-C with it. Connections through a proxy are left to their timeouts.
    """
    import socket
    import threading
    from weakref import WeakSet

    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    live: WeakSet[HTTPConnection] = WeakSet()
    lock = threading.Lock()

    class Plain(HTTPConnection):
        def connect(self) -> None:
            with lock:
                live.add(self)
            super().connect()

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            with lock:
                live.add(self)
            super().connect()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    for adapter in session.adapters.values():
        if isinstance(adapter, HTTPAdapter):
            adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def cut() -> None:
        with lock:
            sockets = [connection.sock for connection in live]
        for sock in sockets:
            if sock is not None:
                with suppress(OSError):
                    # Below TLS: its own farewell is not for another thread to say.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    return cut


def public_url(url: str) -> str:
    """The URL without user name, password and query, fit to be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address, which somebody gave for one
        return public_text(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))


def public_text(text: str) -> str:
    """A message without the credentials that the addresses in it may hold."""
    return re.sub(r"\?[^\s'\"()]+", "", re.sub(r"//[^/\s'\"]*@", "//", text))
