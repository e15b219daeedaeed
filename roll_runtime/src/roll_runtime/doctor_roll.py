"""Requirements of ROLL and Ray: a route, a directory for Ray's session, distributions.

None of them is imported. Where Ray is not installed the image serves SGLang alone, and what only
ROLL needs is reported as a warning.
"""

import importlib.metadata
import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from roll_runtime.findings import Check, Status

ROLL_NEEDS: dict[str, str] = {
    "ray": "ray[default]",
    "codetiming": "codetiming",
    "dacite": "dacite",
    "grpc": "grpcio",
    "hydra": "hydra-core",
    "more_itertools": "more_itertools",
    "omegaconf": "omegaconf",
    "peft": "peft",
    "pybase64": "pybase64",
    "tensordict": "tensordict",
    "transfer_queue": "TransferQueue",
}
"""Imports of ROLL's SGLang worker beside SGLang's own requirements, by module
(roll/distributed/strategy/sglang_strategy.py at 8eb27cc2 and what it imports)."""

ROLL_NEEDS_OF_TELEMETRY = (
    "opentelemetry-api",
    "opentelemetry-exporter-otlp-proto-grpc",
    "opentelemetry-sdk",
)
"""The same by distribution: all of them share one namespace package."""

_SOCKET_PATH = 107
"""Ray's sockets lie in `<base>/ray/session_<date>_<time>_<microseconds>_<pid>/sockets/`, and the
kernel takes paths of 107 bytes."""

_BELOW_THE_BASE = len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")


def has(module: str) -> bool:
    """Return whether a top-level module is installed; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def check_network() -> Iterator[Check]:
    """Report the address by which ROLL would register this node; no packet is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # As get_node_ip() does (roll/utils/network_utils.py).
            probe.connect(("8.8.8.8", 80))
            address = probe.getsockname()[0]
    except OSError as error:
        yield Check(
            "route",
            Status.FAIL if has("ray") else Status.WARN,
            f"none to 8.8.8.8 ({error.strerror}): ROLL's get_node_ip() fails, which takes "
            "the address by which the kernel would reach it",
            "Give the container a network with a default route (docker run --network host on a "
            "host that has one). Without any, a route to an unused address suffices: "
            "ip route add 8.8.8.8/32 dev eth0 on the host.",
        )
    else:
        yield Check("route", Status.OK, f"ROLL takes {address} for this node's address")


def check_ray() -> Iterator[Check]:
    """Report the directory of Ray's session, where Ray is installed."""
    if not has("ray"):
        yield Check("ray", Status.OK, "not installed: this image serves SGLang alone")
        return
    base = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108
    session = Path(base, "ray")
    found = session if session.exists() else Path(base)
    if not os.access(found, os.W_OK | os.X_OK):
        yield Check(
            "ray",
            Status.FAIL,
            f"its session directory {session} cannot be written by uid {os.getuid()}",
            "docker run -e RAY_TMPDIR=/a/writable/directory, or a tmpfs at /tmp.",
        )
    elif len(base.rstrip("/")) + _BELOW_THE_BASE > _SOCKET_PATH:
        yield Check(
            "ray",
            Status.FAIL,
            f"the paths of its sockets below {base} are longer than {_SOCKET_PATH} bytes",
            "Set RAY_TMPDIR to a shorter path, such as /tmp.",
        )
    else:
        yield Check("ray", Status.OK, f"its session directory {session} can be written")


def check_roll() -> Iterator[Check]:
    """Report missing requirements of ROLL's SGLang worker, where Ray or ROLL is installed."""
    if not has("ray") and not has("roll"):
        return
    missing = [name for module, name in ROLL_NEEDS.items() if not has(module)]
    missing += [name for name in ROLL_NEEDS_OF_TELEMETRY if not _installed(name)]
    if missing:
        yield Check(
            "roll",
            Status.FAIL,
            f"not installed, and imported by its SGLang worker: {', '.join(missing)}",
            f"pip install {' '.join(missing)}, with the image's own versions as constraint (pip "
            "freeze).",
        )
    else:
        yield Check("roll", Status.OK, "all imports of its SGLang worker are installed")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
