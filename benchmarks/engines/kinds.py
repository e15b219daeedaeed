"""The engines by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines.containerd import Containerd, Programs
from benchmarks.engines.docker import Docker
from benchmarks.engines.engine import Engine
from benchmarks.engines.podman import Podman
from benchmarks.rivals import dockerd

_MANY = 10
"""Downloads and unpacks at a time, of the engines that are not as they come."""


@dataclass(frozen=True)
class Where:
    """The directories of an engine.

    Attributes:
        node: of its storage.
        shared: of the root with Debian's newest Docker, which outlasts a run.
        release: of the programs of a release of containerd; None if there is none.
    """

    node: Path
    shared: Path
    release: Path | None


@dataclass(frozen=True)
class Kind:
    """An engine: what it is called, what makes it, whether it needs a release of containerd."""

    title: str
    make: Callable[[Where], Engine]
    released: bool = False


def _debian(where: Where) -> Containerd:
    root = dockerd.newer(where.shared).root
    assert root  # a newer Docker has one
    return Containerd(where.node, Programs.of(root), {})


def _release(where: Where, **settings: int) -> Containerd:
    assert where.release  # the command line was checked
    return Containerd(where.node, Programs(where.release), settings)


def _docker(where: Where, store: str, **settings: object) -> Docker:
    return Docker(where.node, dockerd.newer(where.shared), store, settings)


ENGINES = {
    "podman": Kind("podman", lambda where: Podman(where.node)),
    "containerd": Kind("containerd of Debian sid", _debian),
    "docker": Kind("Docker, containerd's image store", lambda where: _docker(where, "containerd")),
    "docker-overlay2": Kind("Docker, overlay2", lambda where: _docker(where, "overlay2")),
    "docker-ten": Kind(
        f"Docker, containerd's image store, {_MANY} downloads at a time",
        lambda where: _docker(where, "containerd", **{"max-concurrent-downloads": _MANY}),
    ),
    "containerd-release": Kind("containerd, a release", _release, released=True),
    "containerd-parallel": Kind(
        f"containerd, a release, {_MANY} downloads and unpacks at a time",
        lambda where: _release(where, max_concurrent_downloads=_MANY, max_concurrent_unpacks=_MANY),
        released=True,
    ),
}
