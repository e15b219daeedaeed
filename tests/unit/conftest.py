"""What several unit tests are made with: real wheels and a real HTTP server that can fail."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from images.oci.store.store import Store, open_store
from tests import chance
from tests.listening import listening

chance.load_profile()

MakeWheel = Callable[..., Path]
"""`make_wheel(files, name=…, version=…, tag=…, record=…, modes=…)`: the path of the wheel."""


def record_of(files: Mapping[str, bytes], own: str) -> str:
    """The text of a RECORD that lists these files and itself."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([own, "", ""])
    return out.getvalue()


def write_wheel(
    directory: Path,
    files: Mapping[str, bytes],
    *,
    name: str = "demo",
    version: str = "1.0",
    tag: str = "py3-none-any",
    record: str | None = None,
    modes: Mapping[str, int] | None = None,
    metadata: str = "",
) -> Path:
    """A wheel of these files; its metadata and RECORD are made unless they are given."""
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    whole = {
        f"{info}/METADATA": (head + metadata).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        **files,
    }
    if record is None:
        record = record_of(whole, f"{info}/RECORD")
    whole.setdefault(f"{info}/RECORD", record.encode())
    path = directory / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in whole.items():
            entry = zipfile.ZipInfo(member)
            entry.external_attr = (modes or {}).get(member, 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(tmp_path / "store")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here (not root, or in a container)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    def make(files: Mapping[str, bytes], **options: Any) -> Path:
        directory = tmp_path / "wheels"
        directory.mkdir(exist_ok=True)
        return write_wheel(directory, files, **options)

    return make


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


def _handler(state: Faulty) -> type[BaseHTTPRequestHandler]:
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


@pytest.fixture
def server() -> Iterator[Faulty]:
    state = Faulty()
    with listening(_handler(state)) as state.port:
        yield state
