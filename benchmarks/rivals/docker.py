"""BuildKit in Docker: the host's with gzip, a newer one with zstd and containerd's image store."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.checkout import Variant
from benchmarks.removal import remove
from benchmarks.rivals import base, dockerd
from benchmarks.rivals.dockerfile import Context, Recipe
from benchmarks.rivals.rival import COLD, FIRST, SECOND, Bench, quiet

_CLIENT = "/usr/bin/docker"
_IMAGE = "bench"


class _Docker:
    """The base class of both.

    Args:
        bench: its directories, sources and files.
        recipe: the recipe of its Dockerfile.
        programs: the programs of the daemon.
    """

    def __init__(self, bench: Bench, recipe: Recipe, programs: dockerd.Docker) -> None:
        self._bench = bench
        self._recipe = recipe
        self._programs = programs
        self._context = Context(bench.place / "context", bench.checkout, bench.pip)
        self._host = ""

    @contextmanager
    def running(self) -> Iterator[Sequence[int]]:
        """Run the daemon, with the base loaded."""
        with dockerd.running(self._programs, self._bench.place) as daemon:
            self._host = daemon.host
            if not self._client("images", "--quiet"):
                bench = self._bench
                base.load(bench.store, bench.base_of, bench.place / "base", daemon.host)
            yield (daemon.pid,)

    def prepare(self, variant: Variant) -> None:
        """Write the context; remove what the build must make, which frees disk space."""
        self._context.at(variant, self._recipe, self._bench.index)
        if variant.name in (FIRST, COLD):
            self._forget_images()
            self._prune("--all", "--filter", "type=regular")
        if variant.name == FIRST:
            self._prune("--all")
        if variant.pin or variant.name == SECOND:
            self._forget_images()
            self._forget_last()

    def after(self, variant: Variant) -> None:
        """Free disk space: remove from uv's cache what is not installed again."""
        if variant.name == COLD and self._recipe.parts:
            self._run(self._command("--no-cache", "--file", str(self._context.tidy())))

    def build(self, variant: Variant) -> Sequence[str]:
        """Return the command, as users run it."""
        return self._command(*self._output(variant))

    def push(self, variant: Variant, reference: str) -> Sequence[str]:
        """Return the command, as users run it."""
        self._client("tag", f"{_IMAGE}:{variant.name}", reference)
        return ["env", f"DOCKER_HOST={self._host}", _CLIENT, "push", "--quiet", reference]

    def drop(self) -> None:
        """Remove the daemon's data."""
        remove(self._bench.place / "data")  # Docker leaves no immutable files here

    def versions(self) -> Mapping[str, str]:
        """Return the versions of Docker and its parts."""
        return self._programs.versions()

    def _output(self, variant: Variant) -> Sequence[str]:
        raise NotImplementedError

    def _command(self, *options: str) -> list[str]:
        raise NotImplementedError

    def _prune(self, *options: str) -> None:
        raise NotImplementedError

    def _forget_last(self) -> None:
        """Remove the last RUN's layer and those above it: a new one is made in any case."""
        name = f"{(self._recipe.parts or ('requirements',))[-1]}.txt"
        records = self._records()
        doomed = [item for item in records if name in item["Description"]]
        for item in doomed:  # grows: children go as well, and before their parent
            doomed += [other for other in records if item["ID"] == other["Parent"]]
        for item in reversed(doomed):
            self._prune("--all", "--filter", f"id={item['ID'].rstrip('*')}")

    def _records(self) -> list[dict[str, str]]:
        """Return BuildKit's layers; no cache mounts, which are named after their last user."""
        output = self._client("system", "df", "--verbose", "--format={{json .}}")
        records: list[dict[str, str]] = json.loads(output)["BuildCache"]
        return [item for item in records if item["CacheType"] == "regular"]

    def _forget_images(self) -> None:
        listed = self._client("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        kept = ("bench-base:", "<none>")  # an image without a name goes with its last name
        if old := [name for name in listed if not name.startswith(kept)]:
            self._client("rmi", "--force", *old)

    def _client(self, *arguments: str) -> str:
        return quiet([_CLIENT, *arguments], DOCKER_HOST=self._host)

    def _run(self, command: Sequence[str]) -> None:
        subprocess.run(command, check=True, capture_output=True)

    def _environment(self, **more: str) -> list[str]:
        settings = {"DOCKER_HOST": self._host, "DOCKER_CONFIG": str(self._bench.place), **more}
        context = str(self._context.path)
        return ["env", f"--chdir={context}", *(f"{key}={text}" for key, text in settings.items())]


class HostBuildKit(_Docker):
    """The host's Docker (20.10 in Debian bookworm): its graph driver, gzip when it pushes."""

    def __init__(self, bench: Bench, recipe: Recipe) -> None:
        super().__init__(bench, recipe, dockerd.Docker())

    def _output(self, variant: Variant) -> Sequence[str]:
        return ("--tag", f"{_IMAGE}:{variant.name}")

    def _command(self, *options: str) -> list[str]:
        command = [*self._environment(DOCKER_BUILDKIT="1"), _CLIENT, "build", "--network=host"]
        return [*command, "--quiet", *options, "."]

    def _prune(self, *options: str) -> None:
        self._client("builder", "prune", "--force", *options)


class NewBuildKit(_Docker):
    """A newer Docker with containerd's image store: compressed when it builds.

    Args:
        bench: its directories, sources and files.
        recipe: of its Dockerfile.
        compression: of its layers, `zstd` or `gzip`.
    """

    def __init__(self, bench: Bench, recipe: Recipe, compression: str) -> None:
        super().__init__(bench, recipe, dockerd.newer(bench.shared))
        self._compression = compression

    def _output(self, variant: Variant) -> Sequence[str]:
        if variant.name == FIRST:
            return ("--output=type=cacheonly",)
        # Docker would unpack what it has just packed, which a push does not need.
        settings = f"compression={self._compression},oci-mediatypes=true,unpack=false"
        return (f"--output=type=image,name={_IMAGE}:{variant.name},{settings}",)

    def _command(self, *options: str) -> list[str]:
        command = [*self._environment(), self._programs.buildx, "build", "--network=host"]
        command += ["--allow=network.host", "--provenance=false", "--progress=plain"]
        return [*command, *options, "."]

    def _prune(self, *options: str) -> None:
        command = [*self._environment(), self._programs.buildx, "prune", "--force", *options]
        quiet(command)
