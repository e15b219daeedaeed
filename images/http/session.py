"""HTTP sessions: certificates, connections, the Authorization header, and redaction of URLs."""

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
    """Sets a given Authorization header, or none, on a request.

    Passed to requests as `auth`, which would use a login of ~/.netrc otherwise.
    """

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header."""
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


def basic(user: str, password: str) -> str:
    """Return the Authorization header of a user name and a password (RFC 7617)."""
    from base64 import b64encode

    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode('ascii')}"


def without_login(url: str) -> tuple[str, str | None]:
    """Split a URL into one without user name and password, and the Authorization header of both."""
    parts = urlsplit(url)
    given, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = given.partition(":")
    return parts._replace(netloc=host).geturl(), basic(unquote(user), unquote(password))


def session(context: Callable[[str], ssl.SSLContext] | None = None) -> requests.Session:
    """Open a session; `images.http.redirect` follows the redirects.

    Args:
        context: returns the context that checks certificates for a URL; always the same one for one
            host. It is called before the first connection with TLS.
    """
    from functools import cache
    from http.cookiejar import DefaultCookiePolicy

    import requests
    from requests.adapters import HTTPAdapter

    @cache  # for all connections: reading the certificates takes longer than a handshake
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
            # requests prepares the next request even if it must not make it: it reads ~/.netrc for
            # the new host, and the whole body of the response.
            return None

    made = Session()
    # A cookie is sent to all ports of a host, and a registry with web pages may take it for a
    # browser's. Registry clients, and uv, keep none.
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    for scheme in ("https://", "http://"):
        made.mount(scheme, Adapter(pool_maxsize=_CONNECTIONS))
    made.hooks["response"].append(_bound)
    return made


def _bound(response: requests.Response, *, stream: bool = False, **_: Any) -> None:
    """Limit a response, unless it is a streamed success, whose reader counts for itself.

    The body of a failure or a redirect is read whole, even if the request was to be streamed.
    """
    if not (stream and succeeded(response)):
        responses.bound(response)


def succeeded(response: requests.Response) -> bool:
    """Return whether the request succeeded: any 2xx means that (RFC 9110, section 15.3)."""
    return 200 <= response.status_code < 300


def canceller(session: requests.Session) -> Callable[[], None]:
    """Return a function that shuts the session's connections down, so that all waits end at once.

    Without it, a thread that waits for a stalled server would end only by its timeout, and Ctrl-C
    with it. Connections through a proxy end by their timeouts.
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

    def cancel() -> None:
        with lock:
            sockets = [connection.sock for connection in live]
        for sock in sockets:
            if sock is not None:
                with suppress(OSError):
                    # Below TLS, whose own shutdown must not be called from another thread.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    return cancel


def public_url(url: str) -> str:
    """Return the URL without user name, password and query, safe to print."""
    try:
        parts = urlsplit(url)
    except ValueError:  # not a URL
        return public_text(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))


def public_text(text: str) -> str:
    """Return a message without the credentials that URLs in it may contain."""
    return re.sub(r"\?[^\s'\"()]+", "", re.sub(r"//[^/\s'\"]*@", "//", text))
