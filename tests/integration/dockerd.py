"""A private Docker daemon for tests: its own socket, data and name spaces, gone without a trace.

The daemon is the host's (`dockerd` on PATH), the one in the directory that ROLL_IMAGES_DOCKERD
names, or Debian's newest in a root of its own (`--current-docker`). It runs in mount and process
name spaces of its own: when it ends, or this process does, its mounts, containers and helpers end
with it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.daemons import IN_ITS_ROOT
from benchmarks.rivals.dockerd import newer

REQUIRE = "ROLL_IMAGES_REQUIRE"
DIRECTORY = "ROLL_IMAGES_DOCKERD"
CONTAINERD_STORE = (24, 0)
_PATIENCE = 60.0

# Arguments: data directory, size of a file system in memory for it (empty: none), then the command.
# cgroup v1 hosts have no systemd to ask, hence the driver that is set below.
_START = """
set -e
data=$1 size=$2; shift 2
mount -t proc proc /proc
[ -z "$size" ] || mount -t tmpfs -o "size=$size" tmpfs "$data"
exec "$@"
"""


@dataclass(frozen=True)
class Daemon:
    """A running daemon.

    Attributes:
        host: value for DOCKER_HOST.
        socket: the path in it.
        version: of the daemon, e.g. `(20, 10)`.
        containerd_store: whether it keeps images in containerd.
    """

    host: str
    socket: Path
    version: tuple[int, int]
    containerd_store: bool


@contextmanager
def running(
    *, containerd_store: bool = False, size: str = "", root: Path | None = None
) -> Iterator[Daemon]:
    """Start a daemon, wait until it answers, set DOCKER_HOST; all of it ends with the block.

    Args:
        containerd_store: keep images in containerd instead of a graph driver.
        size: give the host's a file system of this size for its data, e.g. `50m`, to see it full.
        root: holds another Docker than the host's.
    """
    version = require(root)
    if containerd_store and version < CONTAINERD_STORE:
        pytest.skip(f"Docker {version[0]}.{version[1]} has no containerd image store")
    place = Path(tempfile.mkdtemp(prefix="dockerd-"))  # a socket's path may have 107 bytes
    try:
        # From Docker 29 on the containerd image store is what a new daemon has.
        features = {"containerd-snapshotter": containerd_store}
        config = {"features": features} if version >= CONTAINERD_STORE else {}
        (place / "daemon.json").write_text(json.dumps(config))
        with _started(place, size, root) as daemon_socket:
            daemon = Daemon(f"unix://{daemon_socket}", daemon_socket, version, containerd_store)
            with _docker_host(daemon.host):
                yield daemon
    finally:
        shutil.rmtree(place, ignore_errors=True)


def require(root: Path | None = None) -> tuple[int, int]:
    """The version of the daemon that would be started; skips, or fails where it must be there."""
    if os.geteuid() != 0:
        absent("dockerd needs root")
    program = shutil.which("dockerd", path=_environment()["PATH"])
    if root is None and program is None:
        absent("no dockerd; on Debian: apt install docker.io")
    command = ["chroot", str(root), "dockerd"] if root else [str(program)]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    match = re.search(r"version (\d+)\.(\d+)", done.stdout)
    assert match, done.stdout
    return int(match[1]), int(match[2])


def current(place: Path | None) -> Path:
    """The root of Debian's newest Docker, unpacked in a directory once; skips if none is given."""
    if place is None:
        pytest.skip("no --current-docker DIR: 350 MB from the Debian mirror, kept there")
    if os.geteuid() != 0:
        absent("dockerd needs root")
    place.mkdir(parents=True, exist_ok=True)
    root = newer(place.resolve()).root
    assert root is not None
    return root


def absent(reason: str) -> None:
    """Skip aloud; fail where ROLL_IMAGES_REQUIRE requires Docker."""
    if os.environ.get(REQUIRE) == "docker":
        pytest.fail(f"{reason} ({REQUIRE}=docker)")
    pytest.skip(reason)


@contextmanager
def _started(place: Path, size: str, root: Path | None) -> Iterator[Path]:
    data, address, log = place / "data", place / "docker.sock", place / "log"
    data.mkdir()
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]
    command += ["--kill-child", "--propagation", "private", "--", "/bin/sh", "-c"]
    if root:
        command += [IN_ITS_ROOT, "sh", str(root), str(place)]
    else:
        command += [_START, "sh", str(data), size]
    command += ["dockerd", f"--config-file={place}/daemon.json"]
    command += [f"--data-root={data}", f"--exec-root={place}/exec", f"--pidfile={place}/pid"]
    command += [f"--host=unix://{address}", "--bridge=none", "--iptables=false"]
    command += ["--ip6tables=false", "--exec-opt=native.cgroupdriver=cgroupfs"]
    with log.open("wb") as out:
        holder = subprocess.Popen(command, stdout=out, stderr=out, env=_environment())
    try:
        _wait(holder, address, log)
        yield address
    finally:
        _stop(holder)


def _wait(holder: subprocess.Popen[bytes], address: Path, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and holder.poll() is None:
        if _answers(address):
            return
        time.sleep(0.1)
    pytest.fail(f"dockerd did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def _answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(os.fspath(address))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(64)
        except OSError:
            return False


def _stop(holder: subprocess.Popen[bytes]) -> None:
    """Let the daemon end in peace, so that it takes its cgroups along; then end its name spaces."""
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    for child in children.read_text().split() if children.exists() else ():
        with suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGTERM)
    try:
        holder.wait(20)
    except subprocess.TimeoutExpired:
        holder.kill()
        holder.wait()


def _environment() -> Mapping[str, str]:
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin"
    if directory := os.environ.get(DIRECTORY):
        path = directory + os.pathsep + path
    return {**os.environ, "PATH": path}


@contextmanager
def _docker_host(host: str) -> Iterator[None]:
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = host
    try:
        yield
    finally:
        if before is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = before
