"""A newer Docker with a storage of its own: containerd's image store, or the classic one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.engines.engine import ENDS_WITH_US, disk_used
from benchmarks.removal import remove
from benchmarks.rivals import dockerd

_CLIENT = "/usr/bin/docker"


class Docker:
    """dockerd, and the host's client, which only asks it.

    Args:
        place: the directory of its storage, made when missing.
        programs: of a Docker.
        store: `containerd` or `overlay2`.
        settings: more of daemon.json.
    """

    def __init__(
        self, place: Path, programs: dockerd.Docker, store: str, settings: Mapping[str, object]
    ) -> None:
        self._place = place
        self._programs = programs
        self._settings = {"features": {"containerd-snapshotter": store == "containerd"}, **settings}
        if store != "containerd":
            self._settings["storage-driver"] = store
        self._host = ""
        place.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def running(self) -> Iterator[Sequence[int]]:
        """Run the daemon; remove its storage at the end."""
        try:
            with dockerd.running(self._programs, self._place, self._settings) as daemon:
                self._host = daemon.host
                yield (daemon.pid,)
        finally:
            remove(self._place)

    def pull(self, reference: str) -> list[str]:
        """Return the command that pulls an image."""
        # A client whose daemon is gone ends as well; it must not read the user's settings.
        command = [*ENDS_WITH_US, "env", f"DOCKER_HOST={self._host}"]
        return [*command, f"DOCKER_CONFIG={self._place}", _CLIENT, "pull", "--quiet", reference]

    def used(self) -> int:
        """Return the bytes on disk."""
        return disk_used(self._place / "data")

    def versions(self) -> Mapping[str, str]:
        """Return the version of Docker."""
        return {"Docker": self._programs.versions()["Docker"]}
