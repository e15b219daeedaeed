"""A Docker daemon with data of its own, of the host's Docker or of a newer one in a directory."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from images.inputs.fetch import mirror

# A newer Docker runs in the root that it was unpacked in, with its data at the same path as
# outside. It has namespaces of its own, so that nothing is left of it when it ends.
IN_ITS_ROOT = """
set -e
root=$1 place=$2; shift 2
mount --bind "$root" "$root"
mkdir -p "$root/mnt"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$place"
mount --rbind "$place" "$root$place"
cd "$root"
pivot_root . mnt
umount -l /mnt
exec "$@"
"""
_HOST = 'set -e; mount -t proc proc /proc; shift 2; exec "$@"'
_PATIENCE = 60.0
_SUITE = "sid"
_PACKAGES = "base-files,ca-certificates,docker.io,docker-buildx,iptables,mount"


@dataclass(frozen=True)
class Docker:
    """The programs of a Docker.

    Attributes:
        root: the directory that they are in; None for the host's.
    """

    root: Path | None = None

    @property
    def buildx(self) -> str:
        """The plugin for newer BuildKit, as a program."""
        return f"{self.root or '/'}/usr/libexec/docker/cli-plugins/docker-buildx"

    def versions(self) -> dict[str, str]:
        """Return the versions of its parts."""
        change = ["chroot", str(self.root)] if self.root else []
        output = subprocess.check_output([*change, "dockerd", "--version"], text=True)
        found = {"Docker": output.split("version ")[1].split(",")[0]}
        if self.root:
            output = subprocess.check_output([self.buildx, "version"], text=True)
            found["buildx"] = output.split()[1]
        return found


def newer(place: Path) -> Docker:
    """Return Debian's newest Docker with BuildKit; it is fetched and unpacked once."""
    root = place / f"docker-{_SUITE}"
    if not root.exists():
        partial = root.with_suffix(".part")
        shutil.rmtree(partial, ignore_errors=True)
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract"]
        # The mirror may be a snapshot, or the host's clock wrong.
        command += ["--aptopt=Acquire::Check-Valid-Until false", f"--include={_PACKAGES}"]
        subprocess.run([*command, _SUITE, str(partial), mirror.find().debian], check=True)
        partial.rename(root)
    return Docker(root)


@dataclass(frozen=True)
class Daemon:
    """A running daemon: the address that it listens on, and its parent process."""

    host: str
    pid: int


@contextmanager
def running(docker: Docker, place: Path) -> Iterator[Daemon]:
    """Run a daemon on the data in a directory, where they stay."""
    address, log = place / "docker.sock", place / "dockerd.log"
    address.unlink(missing_ok=True)
    (place / "pid").unlink(missing_ok=True)
    features = {"features": {"containerd-snapshotter": True}} if docker.root else {}
    (place / "daemon.json").write_text(json.dumps(features))
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]
    command += ["--kill-child", "--propagation", "private", "--", "/bin/sh", "-c"]
    command += [
        IN_ITS_ROOT if docker.root else _HOST,
        "sh",
        str(docker.root),
        str(place),
        "dockerd",
    ]
    command += [f"--config-file={place}/daemon.json", f"--data-root={place}/data"]
    command += [f"--exec-root={place}/exec", f"--pidfile={place}/pid", f"--host=unix://{address}"]
    command += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    command += ["--exec-opt=native.cgroupdriver=cgroupfs"]
    with log.open("wb") as out:
        holder = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _wait(holder, address, log)
        yield Daemon(f"unix://{address}", holder.pid)
    finally:
        _stop(holder)


def _wait(holder: subprocess.Popen[bytes], address: Path, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and holder.poll() is None:
        with socket.socket(socket.AF_UNIX) as client:
            if address.exists() and client.connect_ex(str(address)) == 0:
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                if b" 200 " in client.recv(64):
                    return
        time.sleep(0.1)
    sys.exit(f"dockerd did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(holder: subprocess.Popen[bytes]) -> None:
    """Stop the daemon gently: it saves its state and removes its cgroups."""
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    for child in children.read_text().split() if children.exists() else ():
        subprocess.run(["kill", "-TERM", child], check=False)
    try:
        holder.wait(30)
    except subprocess.TimeoutExpired:
        holder.kill()
        holder.wait()
