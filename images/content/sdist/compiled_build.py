"""The wheel of an sdist with C sources, built in the base's root file system.

There it is compiled by the image's own compiler, and confined (`images.content.debian.confined`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from images import format_numbers, image_paths
from images.content.debian import confined, rootfs
from images.content.sdist import wheel_build
from images.inputs.lock.deb import Deb
from images.util import sha256

_INPUT = "sdist-build.tar"
_REMEDY = (
    "see whether its `build:` requirements in the matrix are complete, and whether the base has "
    "the headers; the build has no network"
)
_COMMAND = (f"/usr/bin/python{image_paths.PYTHON}", "-s", "-P", "-B")


def key(base_debs: Sequence[Deb]) -> str:
    """Return the digest of all inputs of such a build but the sdist and its build requirements."""
    worker = sha256.of_file(wheel_build.WORKER)
    return sha256.of_json(
        {"base": rootfs.key(base_debs), "format": format_numbers.COMPILED_SDIST, "worker": worker}
    )


def build(
    archive: Path,
    requirements: Sequence[Path],
    base_debs: Sequence[Deb],
    cache: Path,
    workdir: Path,
) -> Path:
    """Build the wheel of an sdist with the image's own compiler and return its path.

    Args:
        archive: the `.tar.gz`.
        requirements: wheels that the build may import.
        base_debs: the locked base; all of it is in `cache`.
        cache: the download cache.
        workdir: an empty directory for the build; about 1 GB.

    Raises:
        IntegrityError: the sdist is not one.
        ToolError: the build failed; the message ends with its last lines.
        StoreError: the disk is full.
    """
    wheel_build.pack(archive, requirements, workdir / "unpacked", workdir / _INPUT)
    job = confined.Job(
        workdir / _INPUT,
        (*_COMMAND, f"{confined.DIRECTORY}/{wheel_build.WORKER.name}", confined.DIRECTORY),
        results="wheel",
        own=("source",),
        environment={"SOURCE_DATE_EPOCH": str(wheel_build.EPOCH)},
    )
    output, log = confined.run(job, base_debs, cache, workdir)
    return wheel_build.wheel_of(archive.name, output, log, _REMEDY)
