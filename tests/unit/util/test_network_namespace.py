"""A network namespace with the loopback interface alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from images.util.network_namespace import loopback_only

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_TALK = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
print(*(name for _, name in socket.if_nameindex()))
socket.create_connection(("192.0.2.1", 80), 5)
"""


def test_loopback_is_up_and_nothing_else_is_there() -> None:
    command = [*loopback_only(), sys.executable, "-c", _TALK]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "lo\n"
    assert "Network is unreachable" in done.stderr


def test_another_address_is_this_hosts() -> None:
    code = """
import socket
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(("8.8.8.8", 80))
print(*probe.getsockname()[:1], *(name for _, name in socket.if_nameindex()))
socket.create_connection(("192.0.2.1", 80), 5)
"""
    command = [*loopback_only(also="8.8.8.8"), sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "8.8.8.8 lo\n"
    assert "Network is unreachable" in done.stderr
