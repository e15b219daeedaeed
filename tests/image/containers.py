"""The image in containers, through the Docker SDK and testinfra's docker backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import testinfra
from testinfra.host import Host

from images.export.docker import daemon, docker_errors
from tests.image.box import Box

if TYPE_CHECKING:
    from docker.models.containers import Container

_SHM = "8g"  # several GPUs talk through it; Docker's default is 64 MiB


class ContainerBox(Box):
    """An image that the daemon has, and a container of it once it is started."""

    kind = "docker"

    def __init__(self, name: str, host: Host | None = None) -> None:
        self._name = name
        if host is not None:
            self.host = host

    @contextmanager
    def started(
        self,
        *,
        user: str | None = None,
        read_only: bool = False,
        env: Mapping[str, str] | None = None,
        tmpfs: Sequence[str] = (),
        gpus: bool = False,
        loopback_only: bool = True,
    ) -> Iterator[ContainerBox]:
        """Start a container, which has no network; it is removed at the end."""
        options: dict[str, Any] = {"user": user, "read_only": read_only}
        options.update(environment=dict(env or {}), tmpfs=dict.fromkeys(tmpfs, "exec"))
        with running(self._name, gpus=gpus, **options) as container:
            yield ContainerBox(self._name, testinfra.get_host(f"docker://{container.id}"))


@contextmanager
def running(
    image: str,
    *,
    command: Sequence[str] = ("sleep", "infinity"),
    gpus: bool = False,
    **options: Any,
) -> Iterator[Container]:
    """Start a container without a network, and remove it at the end whatever happens.

    Args:
        image: a name or id that the daemon knows.
        command: what it runs.
        gpus: whether it has all GPUs of the host.
        options: of the SDK's `containers.create`.

    Raises:
        DockerError: the daemon cannot be reached or refused a request.
    """
    with daemon.connected() as client:
        from docker.types import DeviceRequest

        if gpus:
            options["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
            options["shm_size"] = _SHM
        with docker_errors.explained(f"run {image}"):
            container = client.containers.create(
                image, list(command), network_mode="none", **options
            )
        try:
            with docker_errors.explained(f"start {image}"):
                container.start()
            yield container
        finally:
            with docker_errors.explained(f"remove the container of {image}"):
                container.remove(force=True, v=True)
