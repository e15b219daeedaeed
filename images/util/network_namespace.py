"""A network namespace of a process, with the loopback interface alone."""

from __future__ import annotations

import sys

# The loopback interface of a new namespace is down, and has no address but 127.0.0.1:
# SIOCSIFFLAGS with IFF_UP, and SIOCSIFADDR of its alias.
_UP = """
import fcntl, os, socket, struct, sys
also, *command = sys.argv[1:]
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))
if also:
    address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(also))
    fcntl.ioctl(socket.socket(), 0x8916, address)
os.execvp(command[0], command)
"""


def loopback_only(also: str = "") -> tuple[str, ...]:
    """Return the beginning of a command that then has no other network; root's alone.

    Args:
        also: an IPv4 address that is this host's as well; none if empty.
    """
    return ("unshare", "--net", "--", sys.executable, "-c", _UP, also)
