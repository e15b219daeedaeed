"""Download of manifests and blobs, with retries and resumption.

Specification: OCI Distribution Spec 1.1, "Pull". A manifest is read into memory, a blob into a
file; when the connection breaks, the rest is requested by its range (RFC 9110, section 14). Every
byte is checked against its digest before it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import IO

from images.errors import IntegrityError
from images.http.retry import TransientError
from images.oci.descriptor import MANIFEST_TYPE
from images.oci.registry.client import Manifest, Registry
from images.oci.registry.refusals import NotFoundError


def manifest(
    registry: Registry, reference: str, accept: Sequence[str] = (MANIFEST_TYPE,)
) -> Manifest:
    """Get a manifest or an index, with the retries of the policy.

    Args:
        registry: the repository.
        reference: a tag or a digest.
        accept: the accepted media types.

    Raises:
        NotFoundError: there is none.
        IntegrityError: its bytes have another digest, or are too many.
        RegistryError: the registry refuses, or no attempt is left.
    """
    found = find_manifest(registry, reference, accept)
    if found is None:
        mark = "@" if ":" in reference else ":"
        raise NotFoundError(f"{registry.repository}{mark}{reference}: not there")
    return found


def find_manifest(
    registry: Registry, reference: str, accept: Sequence[str] = (MANIFEST_TYPE,)
) -> Manifest | None:
    """Get a manifest as `manifest` does; return None if there is none."""
    failures = 0
    while True:
        try:
            return registry.manifest(reference, accept)
        except TransientError as error:
            failures += 1
            registry.transport.pause(failures, error, f"getting the manifest {reference}")


def blob(
    registry: Registry,
    digest: str,
    size: int,
    out: IO[bytes],
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Download a blob to an empty file; on return its content has the digest and the size.

    Args:
        registry: the repository.
        digest: `sha256:…` of the blob.
        size: its bytes, from a descriptor.
        out: the file; seekable, e.g. of `Store.new_file`, which names it after this.
        advance: called with bytes received; negative when bytes must be fetched again.

    Raises:
        NotFoundError: the repository has no such blob.
        IntegrityError: the registry sent other bytes.
        RegistryError: it refuses, or no attempt is left.
        OSError: the file cannot be written.
    """
    _Download(registry, digest, size, out, advance).run()


class _Download:
    """Attempts until the blob has arrived."""

    def __init__(
        self,
        registry: Registry,
        digest: str,
        size: int,
        out: IO[bytes],
        advance: Callable[[int], None],
    ) -> None:
        self._registry = registry
        self._digest = digest
        self._size = size
        self._out = out
        self._advance = advance
        self._have = 0
        self._hash = hashlib.sha256()

    def run(self) -> None:
        """Repeat attempts until one succeeds or none is left."""
        failures, most = 0, 0
        try:
            while True:
                try:
                    self._attempt()
                    break
                except TransientError as error:
                    failures, most = (1, self._have) if self._have > most else (failures + 1, most)
                    doing = f"getting {self._digest[:19]}"
                    self._registry.transport.pause(failures, error, doing)
            self._check()
        except BaseException:
            self._advance(-self._have)
            raise

    def _attempt(self) -> None:
        if self._have == self._size and self._size:
            return
        with self._registry.blob(self._digest, self._have) as (start, pieces):
            if start != self._have:
                self._restart()
            for piece in pieces:
                self._registry.transport.check_stopped()
                self._take(piece)
        if self._have < self._size:
            raise TransientError(f"{self._have} of {self._size} bytes arrived")

    def _take(self, piece: bytes) -> None:
        if self._have + len(piece) > self._size:
            raise self._wrong(f"sends more than its {self._size} bytes")
        self._out.write(piece)
        self._hash.update(piece)
        self._have += len(piece)
        self._advance(len(piece))

    def _restart(self) -> None:
        self._out.seek(0)
        self._out.truncate()
        self._hash = hashlib.sha256()
        self._advance(-self._have)
        self._have = 0

    def _check(self) -> None:
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            raise self._wrong(f"sends bytes with the digest {found}")

    def _wrong(self, found: str) -> IntegrityError:
        return IntegrityError(
            f"{self._registry.repository}: blob {self._digest}: the registry {found}",
            remedy="it is damaged there: delete the registry's copy, then push it again from a "
            "store that verifies",
        )
