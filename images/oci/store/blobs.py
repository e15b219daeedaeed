"""Blobs of a store: each under its digest, with exactly those bytes.

Specification: OCI image layout 1.0, https://github.com/opencontainers/image-spec (image-layout.md,
"Blobs").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from images.errors import IntegrityError, StoreError
from images.oci.descriptor import digest_of
from images.oci.store.files import Files, disk, finish
from images.util import limits, untrusted_files

NOT_A_DOCUMENT = (ValueError, KeyError, TypeError, AttributeError, StoreError)
"""Raised where JSON has another form than an index or a manifest has."""


class Blobs:
    """The blobs of a store.

    Args:
        files: of the store.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._store = files.path
        self._directory = files.path / "blobs" / "sha256"

    def path(self, digest: str) -> Path:
        """Return the path of the blob `sha256:…`, whether it is there or not."""
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise StoreError(f"{self._store}: {digest!r} is not a sha256 digest")
        return self._directory / value

    def has(self, digest: str, size: int) -> bool:
        """Return whether the blob is there with its full size (its hash is for `verify`)."""
        try:
            return self.path(digest).stat().st_size == size
        except OSError:
            return False

    def read(self, digest: str) -> bytes:
        """Return a small blob (a manifest, a config, an SBOM), checked against its digest."""
        try:
            content = untrusted_files.whole(self.path(digest), limits.IN_MEMORY)
        except OSError as error:
            raise StoreError(
                f"{self._store}: blob {digest} cannot be read: {error.strerror}",
                remedy=f"python build.py verify --store {self._store}  # lists all that is missing",
            ) from error
        if digest_of(content) != digest:
            raise IntegrityError(
                f"{self._store}: blob {digest} does not match its digest",
                remedy=f"python build.py verify --store {self._store}  # lists all damaged blobs",
            )
        return content

    @contextmanager
    def new_file(self) -> Iterator[tuple[IO[bytes], Callable[[str], None]]]:
        """Open a file to write a blob to, with the function that names it by its digest.

        A file that is left without a name is removed.
        """
        with disk(self._store), self._files.unfinished() as out:
            yield out, lambda digest: finish(out, self.path(digest))

    def put(self, content: bytes) -> str:
        """Write a small blob; returns its digest."""
        digest = digest_of(content)
        if not self.has(digest, len(content)):
            with self.new_file() as (out, commit):
                out.write(content)
                commit(digest)
        return digest

    def paths(self) -> Iterator[Path]:
        """Yield the paths of all that is in the directory of blobs, in no order."""
        return self._directory.iterdir()

    def size(self) -> int:
        """Return the bytes of all blobs."""
        return sum(path.lstat().st_size for path in self.paths())
