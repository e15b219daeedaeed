"""The URLs of locked files today, at the package index and the Debian mirror."""

from __future__ import annotations

from pathlib import Path

from images.errors import FetchError
from images.inputs.fetch import deb_files, needed_files
from images.inputs.fetch.needed_files import NeededFiles
from images.inputs.lock.artifact import Artifact


def locate(wanted: NeededFiles, mirror: str | None, cache: Path) -> dict[Artifact, str]:
    """Return the URLs of files at the index and the mirror.

    Args:
        wanted: the files.
        mirror: the value of `--debian-mirror`, if it is set.
        cache: the download cache, for the message.

    Raises:
        FetchError: the index is unreachable, or lacks files; the message names each.
        ToolError: uv or mmdebstrap cannot be run.
    """
    urls: dict[Artifact, str] = {}
    needed_files.refuse_custom(wanted, cache)
    if wanted.distributions:
        from images.inputs.fetch import index_login
        from images.inputs.resolve import uv

        found = uv.locate({item.pin: file for file, item in wanted.distributions.items()})
        urls |= index_login.with_logins(found)
    if gone := [item for file, item in wanted.distributions.items() if file not in urls]:
        lines = "".join(f"\n  {item.pin}: {item.artifact.filename}" for item in gone)
        raise FetchError(
            f"the index has no file with the locked hash for:{lines}",
            remedy="lock again (python build.py lock), use an index that still has them, or "
            f"restore the download cache of an earlier build: {cache}",
        )
    if wanted.debs:
        from images.inputs.fetch import mirror as mirrors

        where = mirrors.find(mirror)
        urls |= {file: deb_files.url(package, where) for file, package in wanted.debs.items()}
    return urls
