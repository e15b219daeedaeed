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
"""What comes up when JSON has another form than an index or a manifest has."""


class Blobs(Files):
    """A store as its blobs."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._blobs = path / "blobs" / "sha256"

    def blob_path(self, digest: str) -> Path:
        """Where the blob `sha256:…` lies, whether it is there or not."""
        algorithm, _, value = digest.partition(":")
        if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise StoreError(f"{self.path}: {digest!r} is not a sha256 digest")
        return self._blobs / value

    def has(self, digest: str, size: int) -> bool:
        """Whether the blob is there with its full size (its hash is for `verify`)."""
        try:
            return self.blob_path(digest).stat().st_size == size
        except OSError:
            return False

    def read(self, digest: str) -> bytes:
        """A small blob (a manifest, a config, an SBOM), checked against its digest."""
        try:
            content = untrusted_files.whole(self.blob_path(digest), limits.IN_MEMORY)
        except OSError as error:
            raise StoreError(
                f"{self.path}: blob {digest} cannot be read: {error.strerror}",
                remedy=f"python build.py verify --store {self.path}  # names all that is missing",
            ) from error
        if digest_of(content) != digest:
            raise IntegrityError(
                f"{self.path}: blob {digest} has other bytes than its name says",
                remedy=f"python build.py verify --store {self.path}  # names every damaged blob",
            )
        return content

    @contextmanager
    def new_file(self) -> Iterator[tuple[IO[bytes], Callable[[str], None]]]:
        """A file to write a blob to, and the function that gives it its digest as a name.

        A file that is left without a name is removed.
        """
        with disk(self.path), self._unfinished() as out:
            yield out, lambda digest: finish(out, self.blob_path(digest))

    def put(self, content: bytes) -> str:
        """Keep a small blob; gives its digest."""
        digest = digest_of(content)
        if not self.has(digest, len(content)):
            with self.new_file() as (out, commit):
                out.write(content)
                commit(digest)
        return digest

    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(path.lstat().st_size for path in self._blobs.iterdir())
