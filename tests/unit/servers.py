"""HTTP servers on the loopback interface whose answers a test decides, with TLS where it wants."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.listening import listening

_QUICK = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

Answer = tuple[int, Mapping[str, str], bytes]


@dataclass(frozen=True)
class Asked:
    """A request as a server saw it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def login(self) -> str | None:
        return self.headers.get("Authorization")


@dataclass
class Server:
    """A server.

    Attributes:
        answer: returns status, headers and body for a request.
        seen: the requests.
        url: its address, without a path.
        host: `HOST:PORT`.
    """

    answer: Callable[[Asked], Answer]
    seen: list[Asked] = field(default_factory=list)
    url: str = ""

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]

    @property
    def logins(self) -> list[str]:
        """The Authorization headers that came."""
        return [asked.login for asked in self.seen if asked.login]


@contextmanager
def serving(
    answer: Callable[[Asked], Answer], *, name: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A server until the block ends.

    Args:
        answer: returns the answers; may be replaced later.
        name: its host in its address.
        tls: how it shows who it is; without it is without TLS.
    """
    state = Server(answer)
    with listening(type("Handler", (_Handler,), {"state": state}), tls) as port:
        state.url = f"{'https' if tls else 'http'}://{name}:{port}"
        yield state


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, dict(self.headers.items()), body)
        self.state.seen.append(asked)
        status, headers, content = self.state.answer(asked)
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815


@dataclass(frozen=True)
class Identity:
    """A certificate for `localhost` and 127.0.0.1, and that of the authority that signed it."""

    authority: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """For a server."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.certificate, self.key)
        return made


def identity(place: Path) -> Identity:
    """A new certificate and a new authority in a directory."""
    made = Identity(place / "authority.pem", place / "certificate.pem", place / "key.pem")
    own = str(place / "authority-key.pem")
    # The key identifiers and usages are what Python 3.13 and later require (RFC 5280).
    (place / "extensions").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n"
    )
    for command in (
        ["req", "-x509", *_QUICK, "-days", "2", "-keyout", own, "-out", str(made.authority),
         "-subj", "/CN=authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        ["req", *_QUICK, "-keyout", str(made.key), "-out", str(place / "request.pem"),
         "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", str(place / "request.pem"), "-CA", str(made.authority), "-CAkey",
         own, "-CAcreateserial", "-out", str(made.certificate), "-days", "2", "-extfile",
         str(place / "extensions")],
    ):  # fmt: skip
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return made
