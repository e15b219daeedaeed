"""buildah with a storage of its own, and the same Dockerfile as BuildKit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.checkout import Variant
from benchmarks.rivals import base
from benchmarks.rivals.dockerfile import BASE, Context, Recipe
from benchmarks.rivals.rival import COLD, FIRST, SECOND, Bench, quiet

_IMAGE = "localhost/bench"


class Buildah:
    """The host's buildah; compresses with zstd when it pushes. It has no `COPY --link`."""

    def __init__(self, bench: Bench, recipe: Recipe) -> None:
        self._bench = bench
        self._recipe = recipe
        self._context = Context(bench.place / "context", bench.checkout, bench.pip)
        self._temporary = bench.place / "tmp"

    @contextmanager
    def running(self) -> Iterator[Sequence[int]]:
        """Load the base; there is no daemon."""
        self._temporary.mkdir(exist_ok=True)
        if not self._client("images", "--quiet"):
            bench = self._bench
            store, alone = base.image(bench.store, bench.base_of, bench.place / "base")
            pulled = self._client("pull", "--quiet", f"oci:{store.path}:{alone.ref}")
            self._client("tag", pulled.strip(), BASE)
        yield ()

    def prepare(self, variant: Variant) -> None:
        """Write the context; remove what the build must make."""
        self._context.at(variant, self._recipe, self._bench.index)
        if variant.name in (FIRST, COLD):
            self._forget()
        if variant.name == FIRST:
            quiet(["rm", "-rf", *map(str, self._temporary.glob("buildah-cache*"))])
        if variant.name == SECOND:
            self._forget(keep=f"{_IMAGE}:{COLD}")

    def after(self, variant: Variant) -> None:
        """Free disk space: remove from uv's cache what is not installed again."""
        if variant.name == COLD:
            command = self._command("--no-cache", "--file", str(self._context.tidy()))
            subprocess.run(command, check=True, capture_output=True)

    def build(self, variant: Variant) -> Sequence[str]:
        """Return the command, as users run it."""
        return self._command("--layers", "--tag", f"{_IMAGE}:{variant.name}")

    def push(self, variant: Variant, reference: str) -> Sequence[str]:
        """Return the command, as users run it."""
        command = ["push", "--quiet", "--tls-verify=false", "--compression-format=zstd"]
        return self._buildah(*command, f"{_IMAGE}:{variant.name}", f"docker://{reference}")

    def drop(self) -> None:
        """Remove buildah's storage."""
        storage = self._bench.place / "root"
        subprocess.run(["umount", storage / "overlay"], capture_output=True, check=False)
        quiet(["rm", "-rf", str(storage), str(self._temporary)])

    def versions(self) -> Mapping[str, str]:
        """Return the version of buildah."""
        return {"buildah": quiet(["buildah", "--version"]).split()[2]}

    def _forget(self, keep: str = "") -> None:
        listed = self._client("images", "--format", "{{.Name}}:{{.Tag}}").split()
        tagged = {name for name in listed if name.startswith(f"{_IMAGE}:")} - {keep}
        for name in sorted(tagged):
            self._client("rmi", "--force", name)

    def _client(self, *arguments: str) -> str:
        return quiet(self._buildah(*arguments))

    def _command(self, *options: str) -> list[str]:
        return [*self._buildah("build", "--network=host", "--quiet"), *options, self._source]

    @property
    def _source(self) -> str:
        return str(self._context.path)

    def _buildah(self, *arguments: str) -> list[str]:
        place: Path = self._bench.place
        # runc: crun refuses a machine with controllers of both cgroup versions.
        command = ["env", f"TMPDIR={self._temporary}", "BUILDAH_RUNTIME=runc", "buildah"]
        command += ["--storage-driver=overlay"]
        return [*command, f"--root={place}/root", f"--runroot={place}/run", *arguments]
