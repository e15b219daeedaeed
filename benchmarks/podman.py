"""podman with a storage of its own: the node that pulls."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


class Podman:
    """A node.

    Args:
        place: the directory of its storage, made when missing.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        place.mkdir(exist_ok=True)

    def pull(self, reference: str) -> list[str]:
        """Return the command that pulls an image and prints its id."""
        return self._command("pull", "--quiet", "--tls-verify=false", reference)

    def used(self) -> int:
        """Return the bytes on disk."""
        command = ["du", "--summarize", "--block-size=1", str(self._root)]
        return int(subprocess.check_output(command, text=True).split()[0])

    def forget(self, reference: str) -> None:
        """Remove an image."""
        subprocess.run(self._command("rmi", reference), check=True, capture_output=True)

    def check(self) -> None:
        """Refuse a storage driver that copies each layer whole for the next."""
        command = self._command("info", "--format", "{{.Store.GraphDriverName}}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.stdout.strip() != "overlay":
            sys.exit(f"podman cannot use overlay below {self._place}: {done.stderr.strip()}")

    def remove(self) -> None:
        """Remove the storage; podman bind-mounts its overlay directory onto itself."""
        subprocess.run(["umount", self._root / "overlay"], capture_output=True, check=False)
        shutil.rmtree(self._place)

    @property
    def _root(self) -> Path:
        return self._place / "root"

    def _command(self, *arguments: str) -> list[str]:
        # podman keeps a fetched layer in TMPDIR until it is unpacked.
        command = ["env", f"TMPDIR={self._place}", "podman", "--storage-driver", "overlay"]
        command += ["--root", str(self._root), "--runroot", str(self._place / "run")]
        return [*command, *arguments]
