"""podman with a storage and a state of its own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.registries import need

# runc, which comes with Docker: crun refuses a machine with controllers of both cgroup versions.
_OPTIONS = ("--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=runc")
# Interactive: conmon 2.0.25 (Ubuntu 22.04) makes the standard input that it passes on executable
# for all, which is the host's /dev/null where nobody is attached.
_RUN = ("--rm", "--network=none", "--log-driver=none", "--interactive")
_LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")


class Podman:
    """Pulls and runs; what fails shows podman's own words."""

    def __init__(self, place: Path) -> None:
        # A reset also removes tmpdir, where the exit codes of containers are: by default it is
        # everybody's.
        places = (f"--{option}={place}/{option}" for option in ("root", "runroot", "tmpdir"))
        self._command = ["podman", *places, *_OPTIONS]

    def pull(self, *arguments: str) -> str:
        """Pull an image; return the digest of its config, which is podman's name for it."""
        return f"sha256:{self._ask('pull', '--quiet', *arguments).strip()}"

    def run(self, config: str, *words: str) -> str:
        """Run a command in a pulled image; return its standard output."""
        return self._ask("run", *_RUN, *_LIMITS, config.removeprefix("sha256:"), *words)

    def reset(self) -> None:
        """Unmount and remove everything."""
        command = [*self._command, "system", "reset", "--force"]
        subprocess.run(command, capture_output=True, check=False)

    def _ask(self, *words: str) -> str:
        command = [*self._command, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, input="")
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@contextmanager
def podman() -> Iterator[Podman]:
    """One with an empty storage; skips the test where there is no podman."""
    need("podman")
    place = Path(tempfile.mkdtemp(prefix="podman-"))  # podman takes no longer paths
    made = Podman(place)
    try:
        yield made
    finally:
        made.reset()
        shutil.rmtree(place)
