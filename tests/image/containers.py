"""The image in containers, through the Docker SDK and testinfra's docker backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import testinfra
from testinfra.host import Host

from images.export.docker import daemon
from tests.image.box import Box


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
    ) -> Iterator[ContainerBox]:
        """Start a container; it is removed at the end."""
        with daemon.run(
            self._name,
            user=user,
            read_only=read_only,
            env=env,
            tmpfs=tmpfs,
            network="none",
            gpus=gpus,
        ) as container:
            yield ContainerBox(self._name, testinfra.get_host(f"docker://{container.id}"))
