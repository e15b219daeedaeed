"""A network namespace with the loopback interface alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from images.util.network_namespace import LOOPBACK_ONLY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_TALK = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
print(*(name for _, name in socket.if_nameindex()))
socket.create_connection(("192.0.2.1", 80), 5)
"""


def test_loopback_is_up_and_nothing_else_is_there() -> None:
    command = [*LOOPBACK_ONLY, sys.executable, "-c", _TALK]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "lo\n"
    assert "Network is unreachable" in done.stderr
