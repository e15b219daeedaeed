"""A Docker daemon with data of its own, of the host's Docker or of a newer one in a directory."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import daemons
from images.inputs.fetch import mirror

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
def running(
    docker: Docker, place: Path, settings: Mapping[str, object] | None = None
) -> Iterator[Daemon]:
    """Run a daemon on the data in a directory, where they stay.

    Args:
        docker: its programs.
        place: the directory.
        settings: the content of daemon.json; None for containerd's image store in a newer Docker.
    """
    address = place / "docker.sock"
    (place / "pid").unlink(missing_ok=True)
    if settings is None:
        settings = {"features": {"containerd-snapshotter": True}} if docker.root else {}
    (place / "daemon.json").write_text(json.dumps(settings))
    command = ["dockerd", f"--config-file={place}/daemon.json", f"--data-root={place}/data"]
    command += [f"--exec-root={place}/exec", f"--pidfile={place}/pid", f"--host=unix://{address}"]
    command += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    command += ["--exec-opt=native.cgroupdriver=cgroupfs"]
    with daemons.running(docker.root, place, command, address, _answers) as pid:
        yield Daemon(f"unix://{address}", pid)


def _answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        if client.connect_ex(str(address)):
            return False
        client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in client.recv(64)
