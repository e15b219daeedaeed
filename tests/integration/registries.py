"""A real registry on the loopback interface, and a proxy before it with which things go wrong."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration import dockerd
from tests.listening import listening

USER, PASSWORD = "user", "s3cr3t-pass"
HTPASSWD = "user:$2b$04$abcdefghijklmnopqrstuupbtxNs0Xh3WxtcDqV/YqkG.kt1gyOnS\n"
"""The line of that login in a registry's file of users."""


def need(program: str) -> None:
    """Skip, or fail where that is asked for, when a program is not installed."""
    if shutil.which(program) is None:
        dockerd.absent(f"no {program}; on Debian: apt install {program}")


@contextmanager
def registry(place: Path, **settings: Any) -> Iterator[str]:
    """A real registry; yields its address.

    Args:
        place: a directory for its configuration and data.
        settings: of its configuration, e.g. `auth`; what is given for `http` is added.
    """
    need("docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = place / f"registry-{port}.json"
    whole = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(place / "registry")}},
        **settings,
        "http": {"addr": f"127.0.0.1:{port}", **settings.get("http", {})},
    }
    config.write_text(json.dumps(whole))
    command = ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait(port, server)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.05)
    pytest.fail("docker-registry did not come up")


# -- faults ----------------------------------------------------------------------------------------


@dataclass
class Fault:
    """What goes wrong with a request.

    Attributes:
        method: of the requests that it concerns; empty for all.
        path: a regular expression that is found in their paths.
        kind: `status`: that answer, the registry sees nothing; `torn`: the connection breaks after
            `after` bytes of the body, the registry sees them; `kept`: the same, and the registry
            (unlike Distribution 2.8) goes on from there; `deaf`: it breaks before the registry sees
            anything; `lost`: the registry does it, and the answer is lost; `cut`: half of the
            answer is lost; `slow`: the answer comes in pieces; `stalled`: it never comes.
        times: to how many requests it happens.
        skip: after how many others.
    """

    kind: str
    method: str = ""
    path: str = ""
    after: int = 0
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    skip: int = 0


@dataclass
class Seen:
    """A request as the proxy saw it."""

    method: str
    path: str
    length: int
    range: str | None
    when: float


class Proxy:
    """Stands before a registry, notes the requests, and lets the faults happen.

    Attributes:
        address: the one for clients.
        faults: what is still to go wrong.
        seen: the requests.
        largest: the most bytes of a body that it takes, as some proxies do.
        too_large: what it answers to a larger one.
        guard: looks at a request and may answer it instead of the registry; it keeps the login.
        login: the one that the registry gets instead.
        uploads_at: another address that uploads are sent to.
        statuses: those that clients get instead of the registry's own.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.address = ""
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.largest: int | None = None
        self.too_large = 413, b"413"
        self.guard: Callable[[_Handler], bool] | None = None
        self.login = ""
        self.uploads_at = ""
        self.statuses: dict[int, int] = {}
        self.stalled = threading.Event()
        self.over = threading.Event()
        self._lock = threading.Lock()
        self.continued: dict[str, str] = {}

    def count(self, method: str, path: str = "") -> int:
        """How many such requests there were."""
        return len(self.requests(method, path))

    def requests(self, method: str, path: str = "") -> list[Seen]:
        """The requests of that method whose path has this in it."""
        return [item for item in self.seen if item.method == method and re.search(path, item.path)]

    def fault_of(self, method: str, path: str) -> Fault | None:
        """The fault that happens to a request."""
        with self._lock:
            for fault in self.faults:
                if fault.method in ("", method) and re.search(fault.path, path):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy before a registry."""
    state = Proxy(upstream)
    with listening(type("Handler", (_Handler,), {"proxy": state})) as port:
        state.address = f"127.0.0.1:{port}"
        try:
            yield state
        finally:
            state.over.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content_range = self.headers.get("Content-Range")
        state = self.proxy
        state.seen.append(Seen(self.command, self.path, length, content_range, time.monotonic()))
        if state.guard is not None and state.guard(self):
            return
        if state.largest is not None and length > state.largest:
            self.answer(state.too_large[0], {}, state.too_large[1])
            return
        fault = state.fault_of(self.command, self.path)
        kind = fault.kind if fault else ""
        if fault and kind == "status":
            self.answer(fault.status, fault.headers, b"not now")
        elif fault and kind in ("torn", "kept", "deaf"):
            self._torn(fault, length)
        elif kind == "stalled":
            state.stalled.set()
            state.over.wait()
            self._hang_up()
        else:
            self._forward(length, kind)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Answer without reading what is left of the request."""
        self.close_connection = True
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        # Like nginx: read on for a while, or the client would not get to see the answer.
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(2)
            while self.connection.recv(1 << 16):
                pass

    def _torn(self, fault: Fault, length: int) -> None:
        taken = b"" if fault.kind == "deaf" else self.rfile.read(min(fault.after, length))
        if fault.kind == "kept":
            connection, response = self._ask(taken, len(taken))
            location = response.headers["Location"]
            self.proxy.continued[urlsplit(self.path).path] = urlsplit(location).query
            connection.close()
        elif fault.kind == "torn":
            with suppress(OSError):
                connection = self._begin(length)
                connection.send(taken)
                time.sleep(0.2)  # let it be written
                connection.close()
                time.sleep(0.2)
        self._hang_up()

    def _forward(self, length: int, kind: str) -> None:
        connection, response = self._ask(None, length)
        body = response.read()
        connection.close()
        if kind == "lost":
            self._hang_up()
            return
        self.send_response(self.proxy.statuses.get(response.status, response.status))
        for name, value in response.headers.items():
            if name.lower() == "location" and self.proxy.uploads_at:
                value = value.replace(self.proxy.address, self.proxy.uploads_at)
            if name.lower() not in ("date", "connection", "transfer-encoding"):
                self.send_header(name, value)
        if kind == "cut":
            self.close_connection = True
            if not body:
                self.wfile.write(b"HTTP/1.1 20")
                self._hang_up()
                return
        self.end_headers()
        for piece in [body[: len(body) // 2]] if kind == "cut" else _slices(body, kind == "slow"):
            self.wfile.write(piece)
            self.wfile.flush()
            if kind == "slow":
                time.sleep(0.05)
        if kind == "cut":
            self._hang_up()

    def _begin(self, length: int) -> HTTPConnection:
        connection = HTTPConnection(self.proxy.upstream, timeout=60)
        target = self._target()
        connection.putrequest(self.command, target, skip_host=True, skip_accept_encoding=True)
        dropped = ("content-length", "connection", "authorization" if self.proxy.guard else "")
        for name, value in self.headers.items():
            if name.lower() not in dropped:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(length))
        if self.proxy.login:
            connection.putheader("Authorization", self.proxy.login)
        connection.endheaders()
        return connection

    def _target(self) -> str:
        """The path; of an upload that was torn and kept, with the state that it has now."""
        path = urlsplit(self.path).path
        state = self.proxy.continued.pop(path, None)
        return f"{path}?{state}" if state else self.path

    def _ask(self, body: bytes | None, length: int) -> tuple[HTTPConnection, HTTPResponse]:
        connection = self._begin(length)
        if body is not None:
            connection.send(body)
        else:
            left = length
            while left:
                piece = self.rfile.read(min(1 << 16, left))
                if not piece:
                    connection.close()
                    raise ConnectionError("the client is gone")
                connection.send(piece)
                left -= len(piece)
        return connection, connection.getresponse()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _slices(body: bytes, small: bool) -> Iterator[bytes]:
    step = max(1, len(body) // 5) if small else max(1, len(body))
    return (body[start : start + step] for start in range(0, len(body), step))


# -- tokens ----------------------------------------------------------------------------------------


class TokenServer:
    """A token server inside the proxy; every token is good for a number of requests.

    Args:
        state: the proxy that it guards.
        uses: requests that a token is good for.
        lifetime: seconds, as reported to clients.
        readable: repositories that may be mounted from.
    """

    def __init__(
        self, state: Proxy, *, uses: int = 1000, lifetime: int = 300, readable: str = ".*"
    ) -> None:
        self._state = state
        self._uses = uses
        self._lifetime = lifetime
        self._readable = readable
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}
        self._scopes: dict[str, list[str]] = {}
        self.accepted = {"Basic dXNlcjpzM2NyM3QtcGFzcw==", "refresh:s3cr3t-token"}
        self.issued: list[list[str]] = []
        state.guard = self

    def __call__(self, request: _Handler) -> bool:
        parts = urlsplit(request.path)
        if parts.path == "/token":
            self._issue(request, parts.query)
            return True
        given = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self._allows(given, request):
            return False
        realm = f'Bearer realm="http://{self._state.address}/token",service="test, one"'
        request.answer(401, {"WWW-Authenticate": realm}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
        return True

    def _allows(self, token: str, request: _Handler) -> bool:
        path = request.path
        source = parse_qs(urlsplit(path).query).get("from", [])
        name = re.sub(r"^/v2/|/(blobs|manifests)/.*$", "", urlsplit(path).path)
        with self._lock:
            if self._left.get(token, 0) <= 0:
                return False
            self._left[token] -= 1
            scopes = self._scopes[token]
        reads = request.command in ("GET", "HEAD")
        wanted = [f"repository:{name}:pull,push", *([f"repository:{name}:pull"] if reads else [])]
        return any(scope in scopes for scope in wanted) and all(
            f"repository:{other}:pull" in scopes for other in source
        )

    def _issue(self, request: _Handler, query: str) -> None:
        header = request.headers.get("Authorization") or ""
        if request.command == "POST":
            length = int(request.headers["Content-Length"])
            form = parse_qs(request.rfile.read(length).decode())
            header = f"refresh:{form['refresh_token'][0]}"
            wanted = form["scope"][0].split(" ")
            service = form["service"]
        else:
            wanted = parse_qs(query)["scope"]
            service = parse_qs(query)["service"]
        assert service == ["test, one"]
        if header not in self.accepted:
            request.answer(401, {}, b"no")
            return
        granted = [
            scope
            for scope in wanted
            if scope.endswith(":pull,push") or re.fullmatch(self._readable, scope.split(":")[1])
        ]
        with self._lock:
            token = f"token-{len(self.issued)}"
            self.issued.append(granted)
            self._left[token], self._scopes[token] = self._uses, granted
        answer = {"token": token, "expires_in": self._lifetime}
        request.answer(200, {}, json.dumps(answer).encode())


# -- referrers -------------------------------------------------------------------------------------


class ReferrersApi:
    """The referrers API in the proxy, for a registry without it: it lists what it sees arrive.

    Specification: OCI Distribution Spec 1.1, "Listing Referrers", "Pushing Manifests with Subject".

    Args:
        state: the proxy.
        page: entries of a page.
    """

    def __init__(self, state: Proxy, *, page: int) -> None:
        self._page = page
        self._lists: dict[str, list[dict[str, Any]]] = {}
        state.guard = self

    def listed(self, subject: str) -> list[dict[str, Any]]:
        """What is about that image."""
        return self._lists.get(subject, [])

    def __call__(self, request: _Handler) -> bool:
        parts = urlsplit(request.path)
        if request.command == "GET" and "/referrers/" in parts.path:
            self._answer(request, parts.path, parts.query)
            return True
        if request.command == "PUT" and "/manifests/" in parts.path:
            self._take(request)
            return True
        return False

    def _answer(self, request: _Handler, path: str, query: str) -> None:
        first = int(parse_qs(query).get("first", ["0"])[0])
        following = first + self._page
        found = self.listed(path.rpartition("/")[2])
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": found[first:following],
        }
        headers = {"Content-Type": str(index["mediaType"])}
        if following < len(found):
            headers["Link"] = f'<{path}?first={following}>; rel="next"'
        request.answer(200, headers, json.dumps(index).encode())

    def _take(self, request: _Handler) -> None:
        content = request.rfile.read(int(request.headers["Content-Length"]))
        connection, response = request._ask(content, len(content))
        body, headers = response.read(), {"Location": response.headers.get("Location", "")}
        connection.close()
        manifest = json.loads(content)
        if response.status == 201 and (subject := manifest.get("subject")):
            headers["OCI-Subject"] = subject["digest"]
            descriptor = {
                "annotations": manifest["annotations"],
                "artifactType": manifest["artifactType"],
                "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
                "mediaType": manifest["mediaType"],
                "size": len(content),
            }
            self._lists.setdefault(subject["digest"], []).append(descriptor)
        request.answer(response.status, headers, body)
