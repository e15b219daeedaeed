"""containerd with a storage of its own, which `ctr` asks to pull."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import daemons
from benchmarks.engines.engine import ENDS_WITH_US, disk_used
from benchmarks.removal import remove

# CRI, NRI and the directory for add-ons have sockets and files outside of the storage. All releases
# from 1.3 on read version 2, and 2.x has the same settings of it as of its own version 3.
_CONFIG = """\
version = 2
root = "{place}/root"
state = "{place}/state"
disabled_plugins = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.nri.v1.nri",
]

[grpc]
address = "{address}"

[plugins."io.containerd.transfer.v1.local"]
"""


@dataclass(frozen=True)
class Programs:
    """The programs of a containerd: Debian's in a root, or a release's in a directory.

    Attributes:
        directory: the directory of `containerd` and `ctr`.
        root: the root that they are in; None for those that need nothing but the kernel.
    """

    directory: Path
    root: Path | None = None

    @property
    def daemon(self) -> str:
        """The daemon's path in its root."""
        path = self.directory / "containerd"
        return f"/{path.relative_to(self.root)}" if self.root else str(path)

    @classmethod
    def of(cls, root: Path) -> Programs:
        """Return those of a Debian root."""
        return cls(root / "usr" / "bin", root)


class Containerd:
    """containerd's overlayfs snapshotter and its transfer service, which Kubernetes uses too.

    Args:
        place: the directory of its storage, made when missing.
        programs: of a release.
        settings: of the transfer service; without any they are containerd's.
    """

    def __init__(self, place: Path, programs: Programs, settings: Mapping[str, int]) -> None:
        self._place = place
        self._programs = programs
        self._settings = settings
        self._address = place / "containerd.sock"
        place.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def running(self) -> Iterator[Sequence[int]]:
        """Run the daemon; remove its storage at the end."""
        place, root = self._place, self._programs.root
        config = place / "config.toml"
        lines = [f"{name} = {number}\n" for name, number in self._settings.items()]
        content = _CONFIG.format(place=place, address=self._address)
        config.write_text(content + "".join(lines))
        command = [self._programs.daemon, "--config", str(config)]
        try:
            with daemons.running(root, place, command, self._address, _answers) as pid:
                yield (pid,)
        finally:
            remove(place)

    def pull(self, reference: str) -> list[str]:
        """Return the command that pulls and unpacks an image."""
        command = [*ENDS_WITH_US, str(self._programs.directory / "ctr")]
        command += ["--address", str(self._address), "images", "pull", "--plain-http", reference]
        return command

    def used(self) -> int:
        """Return the bytes on disk: of what was fetched, which it keeps, and what it unpacked."""
        return disk_used(self._place / "root")

    def versions(self) -> Mapping[str, str]:
        """Return the version of containerd."""
        program = str(self._programs.directory / "containerd")
        output = subprocess.check_output([program, "--version"], text=True)
        return {"containerd": output.split()[2].partition("+")[0].removeprefix("v")}


def _answers(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(address)) == 0
