"""podman with a storage of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engines.engine import OWN_MOUNTS, disk_used
from benchmarks.removal import remove


class Podman:
    """The host's podman, which has no daemon.

    Args:
        place: the directory of its storage, made when missing.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        place.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def running(self) -> Iterator[Sequence[int]]:
        """Check the storage driver; remove the storage at the end."""
        try:
            self.check()
            yield ()
        finally:
            self.remove()

    def pull(self, reference: str) -> list[str]:
        """Return the command that pulls an image and prints its id."""
        return self._command("pull", "--quiet", "--tls-verify=false", reference)

    def used(self) -> int:
        """Return the bytes on disk."""
        return disk_used(self._root)

    def versions(self) -> Mapping[str, str]:
        """Return the version of podman."""
        output = subprocess.check_output(["podman", "--version"], text=True)
        return {"podman": output.split()[2]}

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
        """Remove the storage."""
        remove(self._place)

    @property
    def _root(self) -> Path:
        return self._place / "root"

    def _command(self, *arguments: str) -> list[str]:
        # podman bind-mounts its overlay directory onto itself, and leaves that mount behind.
        # It keeps a fetched layer in TMPDIR until it is unpacked.
        command = [*OWN_MOUNTS, "env", f"TMPDIR={self._place}", "podman"]
        command += ["--storage-driver", "overlay"]
        command += ["--root", str(self._root), "--runroot", str(self._place / "run")]
        return [*command, *arguments]
