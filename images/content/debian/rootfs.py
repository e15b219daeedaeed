"""The image's Debian root file system: bookworm for amd64, from locked packages only.

mmdebstrap makes it offline (`images.content.debian.mmdebstrap`), whatever the host's time, user,
umask, locale, apt and mirror.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from images import format_numbers
from images.content.debian import host_traces, mmdebstrap
from images.formats import deb_file, tar_entries
from images.inputs.fetch import download_cache
from images.inputs.lock.deb import Deb
from images.oci.layer.entry import Entry
from images.util import sha256

# The time of all files in the base, 2025-01-01 00:00 UTC: any constant would do.
EPOCH = 1735689600


RECIPE = Path(__file__).with_name("recipe")


def key(debs: Sequence[Deb]) -> str:
    """Return the digest of all inputs of the base's bytes; hexadecimal SHA-256."""
    recipe = {path.name: sha256.of_file(path) for path in sorted(RECIPE.iterdir())}
    hashes = sorted(package.artifact.sha256 for package in debs)
    return sha256.of_json(
        {"debs": hashes, "epoch": EPOCH, "format": format_numbers.DEBIAN_ROOTFS, "recipe": recipe}
    )


def build(debs: Sequence[Deb], cache: Path, workdir: Path) -> Path:
    """Make the root file system.

    Args:
        debs: the locked packages; all of them are in `cache` already.
        cache: the download cache.
        workdir: a directory for temporary files and the result; about 1.2 GB.

    Returns:
        An uncompressed tar in `workdir`. Read it by `entries`, which are the same on all hosts.

    Raises:
        ToolError, StoreError: as `mmdebstrap.run`.
        IntegrityError: a cached file is not a .deb.
    """
    with _repository(debs, cache, workdir):
        return mmdebstrap.run(workdir, RECIPE, EPOCH)


def change(
    debs: Sequence[Deb],
    cache: Path,
    workdir: Path,
    hooks: mmdebstrap.Hooks,
    *,
    installed: bool = True,
) -> None:
    """Make the root file system and run hooks in it; only what they save is kept.

    Args:
        debs: as for `build`.
        cache: as for `build`.
        workdir: as for `build`.
        hooks: the steps in the root.
        installed: whether the packages are installed. Unpacked alone they have the same programs,
            in a third of the time.

    Raises:
        ToolError, StoreError, IntegrityError: as `build`.
    """
    unpacked = None if installed else [package.package for package in debs]
    with _repository(debs, cache, workdir):
        mmdebstrap.change(workdir, RECIPE, EPOCH, hooks, unpacked)


def entries(tar: Path) -> Iterator[Entry]:
    """Return the members of a tar that `build` made: sorted, parents first, without device nodes.

    They are the same on every host; the tar is not (`images.content.debian.host_traces`).

    Raises:
        IntegrityError: the tar is damaged, or not of such a root.
    """
    return host_traces.replaced(tar_entries.entries(tar))


@contextmanager
def _repository(debs: Sequence[Deb], cache: Path, workdir: Path) -> Iterator[None]:
    repository = workdir / mmdebstrap.REPOSITORY
    try:
        write_repository(debs, cache, repository)
        yield
    finally:
        repository.unlink(missing_ok=True)


def write_repository(debs: Sequence[Deb], cache: Path, path: Path) -> None:
    """Write a tar of the packages and their `Packages` index, readable by any user.

    Raises:
        IntegrityError: a cached file is not a .deb, or not that of its lock.
    """
    index: list[str] = []
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for package in sorted(debs):
            file = download_cache.checked(package.artifact, cache)
            name = f"{package.package}.deb"
            index.append(
                f"{deb_file.control(file)}Filename: ./{name}\n"
                f"Size: {package.artifact.size}\nSHA256: {package.artifact.sha256}\n"
            )
            with file.open("rb") as stream:
                _add(tar, name, stream, package.artifact.size)
        content = "\n".join(index).encode()
        _add(tar, "Packages", io.BytesIO(content), len(content))


def _add(tar: tarfile.TarFile, name: str, stream: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, stream)
