"""What every HTTP client here shares: the session's TLS settings, and addresses fit to be shown."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from images import answers

if TYPE_CHECKING:
    import requests

_CONNECTIONS = 32  # kept open to one host


def session() -> requests.Session:
    """A session that checks certificates; the CA bundle comes from the environment."""
    import requests
    from requests.adapters import HTTPAdapter

    made = requests.Session()
    for scheme in ("https://", "http://"):
        made.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    made.hooks["response"].append(answers.bound)
    # uv and curl honour SSL_CERT_FILE where requests does not: one setting must do for all.
    bundle = os.environ.get("SSL_CERT_FILE")
    if bundle and not {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & os.environ.keys():
        made.verify = bundle
    return made


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
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))


def public_text(text: str) -> str:
    """A message without the credentials that the addresses in it may hold."""
    return re.sub(r"\?[^\s'\"()]+", "", re.sub(r"//[^/\s'\"]*@", "//", text))
