"""The wheels of the download cache as an index on the loopback interface.

pip and uv take the one page as `--find-links`. Files leave by sendfile, so that serving them costs
the machine as little as it can.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@contextmanager
def index(files: Mapping[str, Path], port: int) -> Iterator[str]:
    """Serve files by their names; yield the page's address, always the same: uv keys on it."""

    class Handler(_Handler):
        served = files

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Mapping[str, Path]

    def do_HEAD(self) -> None:  # the library's name
        """Send a file's size."""
        if path := self.served.get(self.path[1:]):
            self._head(HTTPStatus.OK, path.stat().st_size, {})
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_GET(self) -> None:
        """Send the page, or a file or a part of it."""
        if path := self.served.get(self.path[1:]):
            self._send(path)
        elif self.path == "/":
            page = "".join(f'<a href="{name}">{name}</a>\n' for name in sorted(self.served))
            self._head(HTTPStatus.OK, len(page), {"Content-Type": "text/html"})
            self.wfile.write(page.encode())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, path: Path) -> None:
        size = path.stat().st_size
        start, end = 0, size
        extra = {}
        if asked := _RANGE.fullmatch(self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or size) + 1, size)
            extra["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._head(HTTPStatus.PARTIAL_CONTENT if extra else HTTPStatus.OK, end - start, extra)
        with path.open("rb") as stream:
            while start < end:
                out, here = self.connection.fileno(), stream.fileno()
                start += os.sendfile(out, here, start, min(end - start, 1 << 24))

    def _head(self, status: HTTPStatus, length: int, extra: Mapping[str, str]) -> None:
        self.send_response(status)
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(length), **extra}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
