"""A package index on the loopback interface: the JSON form of PEP 691, with a login if wanted."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tests.listening import listening

_JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class Index:
    """The files and pages that the index publishes.

    Attributes:
        files: content by file name.
        login: `user:password` that every request needs; empty for none.
        pages: pages by distribution that differ from the files.
        status: what every request is answered with; 0 for the truth.
        seen: paths that were asked for.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)
    login: str = ""
    status: int = 0
    seen: list[str] = field(default_factory=list)
    port: int = 0

    def add(self, path: Path) -> None:
        """Publish a wheel or an sdist."""
        self.files[path.name] = path.read_bytes()

    def url(self, login: str = "") -> str:
        """The index's address, with a login in it where one is given."""
        return f"http://{login + '@' if login else ''}127.0.0.1:{self.port}/simple/"

    def page(self, name: str) -> bytes | None:
        """The page of a distribution; None if there is no file of it."""
        if name in self.pages:
            return self.pages[name]
        files = [
            {
                "filename": filename,
                "url": f"http://127.0.0.1:{self.port}/files/{filename}",
                "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
                "size": len(content),
                "upload-time": "2024-01-01T00:00:00Z",
            }
            for filename, content in self.files.items()
            if canonicalize_name(filename.partition("-")[0]) == name
        ]
        document: dict[str, Any] = {"meta": {"api-version": "1.1"}, "name": name, "files": files}
        return json.dumps(document).encode() if files else None


@contextmanager
def serving() -> Iterator[Index]:
    """An index that answers until the block ends."""
    state = Index()
    handler = type("Handler", (_Handler,), {"index": state})
    with listening(handler) as state.port:
        yield state


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    index: Index

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        state = self.index
        state.seen.append(self.path)
        wanted = "Basic " + base64.b64encode(state.login.encode()).decode()
        if state.login and self.headers.get("Authorization") != wanted:
            self._answer(401, b"who are you?", {"WWW-Authenticate": 'Basic realm="index"'})
            return
        body = self._body()
        if state.status or body is None:
            self._answer(state.status or 404, b"no", {})
            return
        if given := self.headers.get("Range"):
            first, _, last = given.removeprefix("bytes=").partition("-")
            part = body[int(first) : int(last) + 1 if last else None]
            self._answer(206, part, {})
            return
        self._answer(200, body, {"Content-Type": _JSON} if "/simple/" in self.path else {})

    def _body(self) -> bytes | None:
        kind, _, name = self.path.strip("/").partition("/")
        return self.index.page(name) if kind == "simple" else self.index.files.get(name)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
