"""A real HTTP server that can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler


@dataclass
class Faulty:
    """An HTTP server of files, and the faults with which it answers.

    Attributes:
        files: content by path.
        faults: by path, what happens to the next requests, one after the other: a status code;
            `drop` ends the body in the middle; `whole` ignores Range; `gzip` claims an encoding.
        headers: more response headers by path.
        seen: the requests: path, and the Range header or None.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    def url(self, path: str, credentials: str = "") -> str:
        return f"http://{credentials}127.0.0.1:{self.port}{path}"


def handler(state: Faulty) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            wanted = self.headers.get("Range")
            state.seen.append((path, wanted))
            queue = state.faults.get(path, [])
            fault = queue.pop(0) if queue else None
            content = state.files.get(path)
            if isinstance(fault, int) or content is None:
                self._answer(fault if isinstance(fault, int) else 404, path, b"sorry")
                return
            if not wanted or fault == "whole":
                self._answer(200, path, content, fault)
                return
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            self._answer(206, path, content[int(first) : int(last) + 1 if last else None], fault)

        def _answer(
            self, status: int, path: str, body: bytes, fault: str | int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in state.headers.get(path, {}).items():
                self.send_header(name, value)
            if fault == "gzip":
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault == "drop":
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
