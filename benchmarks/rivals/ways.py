"""The rivals by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.rivals import dockerfile
from benchmarks.rivals.buildah import Buildah
from benchmarks.rivals.docker import HostBuildKit, NewBuildKit
from benchmarks.rivals.ours import Ours
from benchmarks.rivals.results import OURS
from benchmarks.rivals.rival import Bench, Rival


@dataclass(frozen=True)
class Way:
    """A rival: what it is called, what makes it, whether it keeps anything between builds, and
    the bytes of disk that it needs for the real target."""

    title: str
    make: Callable[[Bench], Rival]
    cached: bool = True
    room: int = 45_000_000_000


WAYS = {
    OURS: Way("ours", Ours, room=16_000_000_000),
    "buildkit-zstd": Way(
        "BuildKit new, zstd, RUN for torch and rest",
        lambda bench: NewBuildKit(bench, dockerfile.STACK_REST, "zstd"),
    ),
    "buildkit-zstd-three": Way(
        "BuildKit new, zstd, RUN for torch, large and small",
        lambda bench: NewBuildKit(bench, dockerfile.STACK_LARGE_SMALL, "zstd"),
    ),
    "buildkit-gzip": Way(
        "BuildKit of the host's Docker, gzip, RUN for torch and rest",
        lambda bench: HostBuildKit(bench, dockerfile.without_link(dockerfile.STACK_REST)),
    ),
    "buildah": Way(
        "buildah, zstd, RUN for torch and rest",
        lambda bench: Buildah(bench, dockerfile.without_link(dockerfile.STACK_REST)),
    ),
    "pip": Way(
        "BuildKit new, gzip, one RUN pip install",
        lambda bench: NewBuildKit(bench, dockerfile.PIP, "gzip"),
        cached=False,
    ),
}
