"""Answers of a server that never end, or unpack to much: a short error, and little memory."""

from __future__ import annotations

import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from images.errors import RegistryError
from images.http.retry import Policy
from images.oci.reference import Repository
from images.oci.registry.client import Registry
from images.util import limits

MB = 1 << 20
LARGE = 256 * MB


class Handler(BaseHTTPRequestHandler):
    """Sends the response of `case`, with too many bytes."""

    case = ""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Any request."""
        if self.case == "token" and not self.path.startswith("/token"):
            self.send_response(401)
            host = self.headers["Host"]
            self.send_header("WWW-Authenticate", f'Bearer realm="http://{host}/token",service="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response({"token": 200, "list": 200, "blob": 203}.get(self.case, 400))
        self.send_header("Content-Type", "application/vnd.oci.image.index.v1+json")
        if self.case == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Connection", "close")
        self.end_headers()
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        try:
            for _ in range(LARGE // MB):
                piece = b" " * MB
                self.wfile.write(packer.compress(piece) if self.case == "packed" else piece)
            self.wfile.write(packer.flush() if self.case == "packed" else b"")
        except OSError:  # the client has hung up, as it should
            return


@pytest.fixture
def serve() -> Iterator[Callable[[str], Registry]]:
    started: list[ThreadingHTTPServer] = []

    def start(case: str) -> Registry:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Case", (Handler,), {"case": case}))
        started.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = Repository(f"127.0.0.1:{server.server_address[1]}", "team/app")
        policy = Policy(max_attempts=1, max_attempts_unreached=1, base_delay=0.0)
        return Registry(where, plain_http=True, policy=policy)

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("case", ["error", "packed", "token", "list"])
def test_no_response_is_read_beyond_the_limit(serve: Callable[[str], Registry], case: str) -> None:
    registry = serve(case)

    def ask() -> object:
        if case == "list":
            return registry.call("GET", f"referrers/sha256:{'0' * 64}")
        return registry.manifest("latest")

    tracemalloc.start()
    try:
        with pytest.raises(RegistryError, match=f"the limit of {limits.DOCUMENT} bytes"):
            ask()
        assert tracemalloc.get_traced_memory()[1] < 48 * MB
    finally:
        tracemalloc.stop()


def test_streamed_success_has_no_limit_whatever_its_status(
    serve: Callable[[str], Registry],
) -> None:
    total = 0
    with serve("blob").blob(f"sha256:{'0' * 64}") as (_, pieces):
        while total <= limits.DOCUMENT:
            total += len(next(pieces))
