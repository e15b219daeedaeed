"""A registry on the loopback interface, and a relay before it that counts bytes."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

_PIECE = 1 << 20


@contextmanager
def registry(place: Path) -> Iterator[str]:
    """Run an empty registry; yield its address."""
    with TemporaryDirectory(prefix="registry-", dir=place) as data, registry_on(Path(data)) as made:
        yield made


@contextmanager
def registry_on(data: Path) -> Iterator[str]:
    """Run a registry on the data in a directory, which stay there; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = data / "config.json"
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(data)}},
        "http": {"addr": address},
    }
    config.write_text(json.dumps(settings))
    command = ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            _wait(int(address.rpartition(":")[2]))
            yield address
        finally:
            server.terminate()


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("docker-registry did not come up")


class Relay:
    """Passes TCP connections on to a registry.

    Attributes:
        address: the address that clients connect to.
        up: bytes that clients sent.
        down: bytes that the registry sent.
    """

    def __init__(self, listener: socket.socket, upstream: str) -> None:
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.up = self.down = 0
        self._listener = listener
        host, _, port = upstream.rpartition(":")
        self._upstream = host, int(port)
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
                for source, sink, down in ((client, server, False), (server, client, True)):
                    arguments = (source, sink, down)
                    threading.Thread(target=self._pass, args=arguments, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, down: bool) -> None:
        out, into = os.pipe()
        with suppress(OSError), open(out, "rb"), open(into, "wb"):  # noqa: PTH123  # descriptors
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIECE)
            # No byte is copied into this process: it must not take CPU time from what is measured.
            while count := os.splice(source.fileno(), into, _PIECE):
                with self._lock:
                    self.down += count * down
                    self.up += count * (not down)
                while count:
                    count -= os.splice(out, sink.fileno(), count)
            sink.shutdown(socket.SHUT_WR)

    def counted(self) -> tuple[int, int]:
        """Return the bytes down and up since the last call."""
        with self._lock:
            counts = self.down, self.up
            self.down = self.up = 0
        return counts


@contextmanager
def relay(upstream: str, port: int = 0) -> Iterator[Relay]:
    """Run a relay before a registry, on the given port or a free one."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        made = Relay(listener, upstream)
        threading.Thread(target=made.serve, daemon=True).start()
        try:
            yield made
        finally:  # a thread in accept would keep the port, whoever closes the socket
            listener.shutdown(socket.SHUT_RDWR)
