"""Download of remote layers: cancellation."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from io import StringIO
from pathlib import Path

import pytest
import zstandard

from images.errors import RegistryError
from images.oci.descriptor import Blob
from images.oci.reference import Repository
from images.oci.registry import backfill
from images.oci.store import store
from images.oci.store.remote_layers import Location, RemoteLayer
from images.util.progress import Progress
from tests.listening import listening

ZEROS = 16 << 30
"""Bytes that a small blob unpacks to: half a minute of hashing."""


def packed() -> bytes:
    """A zstd blob of that many zeros."""
    frame, piece = zstandard.ZstdCompressor(level=1), bytes(1 << 28)
    return frame.compress(piece) * (ZEROS // len(piece))


def layer(content: bytes) -> Blob:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    kind = "application/vnd.oci.image.layer.v1.tar+zstd"
    return Blob(digest, f"sha256:{'1' * 64}", len(content), ZEROS, kind)


@pytest.fixture
def server() -> Iterator[tuple[str, Blob]]:
    """A registry that has one blob, and is slow to answer that it has no other."""
    content = packed()
    blob = layer(content)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            """Any request."""
            found = content if self.path.endswith(blob.digest) else b""
            time.sleep(0 if found else 0.5)
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

    with listening(Handler) as port:
        yield f"127.0.0.1:{port}", blob


def test_check_of_a_large_tar_ends_after_a_failure(
    tmp_path: Path, server: tuple[str, Blob]
) -> None:
    address, large = server
    place = Location(Repository(address, "team/cache"), plain_http=True)
    target = store.open_store(tmp_path / "store", create=True)
    blobs = [large, layer(b"gone")]
    target.remote_layers.record(
        RemoteLayer(str(n) * 64, blob, place) for n, blob in enumerate(blobs)
    )
    begin = time.monotonic()
    digests, progress = [blob.digest for blob in blobs], Progress(StringIO())
    with pytest.raises(RegistryError, match="has no blob"):
        backfill.fetch(target, digests, progress=progress)
    assert time.monotonic() - begin < 10
    assert not target.blobs.path(large.digest).exists()
