"""A network namespace of a process, with the loopback interface alone."""

from __future__ import annotations

import sys

# The loopback interface of a new namespace is down: SIOCSIFFLAGS with IFF_UP.
_UP = """
import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""

LOOPBACK_ONLY = ("unshare", "--net", "--", sys.executable, "-c", _UP)
"""The beginning of a command that then has no other network; root's alone."""
