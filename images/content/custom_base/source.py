"""The documents and layers of a custom base, fetched into the download cache.

They come from a registry or a layout, and are kept like every other locked file, as
`<sha256>/<name>`: a build that finds them needs no network, and they travel with the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from images.errors import FetchError, IntegrityError, StoreError
from images.inputs.build_options import FetchOptions
from images.inputs.fetch import download_cache
from images.inputs.lock.artifact import Artifact
from images.inputs.matrix.base_reference import BaseReference
from images.oci.descriptor import INDEX_TYPE, MANIFEST_TYPE
from images.util import limits, untrusted_files

if TYPE_CHECKING:
    from images.oci.registry.client import Registry

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_ACCEPT = (MANIFEST_TYPE, INDEX_TYPE, DOCKER_MANIFEST, DOCKER_INDEX)
_CHUNK = 1 << 20

Advance = Callable[[int], None]


class _Source(Protocol):
    """The location of an image."""

    def manifest(self, digest: str) -> bytes:
        """Return the bytes of a manifest or an index; they have the digest."""

    def blob(self, digest: str, size: int, out: IO[bytes], advance: Advance) -> None:
        """Write a blob to an empty file; what was written has the digest and the size."""


class CachedImageSource:
    """A custom base, read through the download cache. Use it as a context manager.

    Args:
        reference: the base.
        options: of the fetch.
    """

    def __init__(self, reference: BaseReference, options: FetchOptions) -> None:
        self._reference = reference
        self._options = options
        self._source: _Source | None = None
        self._stack = ExitStack()

    def __enter__(self) -> CachedImageSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def manifest(self, digest: str) -> bytes:
        """Return a manifest or an index.

        Raises:
            FetchError: it is not in the cache, and no network may be used.
            RegistryError, IntegrityError, StoreError: it is unavailable or cannot be stored.
        """
        found = self._kept(digest, "manifest.json")
        if found is None:
            found = self._opened(f"manifest {digest}").manifest(digest)
            self._keep(digest, "manifest.json", lambda out: _write(out, found or b""))
        return found

    def config(self, digest: str, size: int) -> bytes:
        """Return a config; raises as `manifest`."""
        found = self._kept(digest, "config.json")
        if found is None:
            self._fetch(digest, size, "config.json", lambda _: None)
            found = self._kept(digest, "config.json")
        if found is None:
            raise IntegrityError(
                f"{self._reference}: its config {digest} is larger than allowed",
                remedy="name another image under `base:` in matrix.yaml",
            )
        return found

    def layer(self, digest: str, size: int, advance: Advance) -> None:
        """Fetch a layer that the cache lacks; raises as `manifest`."""
        if download_cache.is_cached(layer_artifact(digest, size), self._options.cache):
            advance(size)
        else:
            self._fetch(digest, size, _LAYER, advance)

    def _kept(self, digest: str, name: str) -> bytes | None:
        path = self._options.cache / _hex(digest) / name
        try:
            content = untrusted_files.whole(path, limits.DOCUMENT)
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == _hex(digest) else None

    def _fetch(self, digest: str, size: int, name: str, advance: Advance) -> None:
        source = self._opened(f"{name.partition('.')[0]} {digest}")
        self._keep(digest, name, lambda out: source.blob(digest, size, out, advance))

    def _keep(self, digest: str, name: str, write: Callable[[IO[bytes]], None]) -> None:
        path = self._options.cache / _hex(digest) / name
        part = path.with_name(f"{name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with download_cache.locked_part(part) as out:
                out.truncate(0)
                write(out)
                out.flush()
                part.replace(path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error}") from error

    def _opened(self, what: str) -> _Source:
        if self._source is None:
            reference, options = self._reference, self._options
            if options.offline:
                raise FetchError(
                    f"{options.cache}: the {what} of the base {reference} is not in the download "
                    "cache",
                    remedy=f"where there is a network: {options.offline}",
                )
            if reference.repository is None:
                self._source = _Layout(reference, reference.directory(options.matrix))
            else:
                from images.oci.registry.client import Registry

                registry = Registry(
                    reference.repository, plain_http=options.plain_http, actions="pull"
                )
                self._source = _Remote(self._stack.enter_context(registry))
        return self._source


_LAYER = "layer"


def layer_artifact(digest: str, size: int) -> Artifact:
    """Return a base's layer as a file of the cache."""
    return Artifact(_LAYER, _hex(digest), size)


def document_artifact(name: str, digest: str, content: bytes) -> Artifact:
    """Return a base's document (`manifest` or `config`) as a file of the cache."""
    return Artifact(f"{name}.json", _hex(digest), len(content))


class _Remote:
    """An image in a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def manifest(self, digest: str) -> bytes:
        """Return a manifest or an index."""
        from images.oci.registry import download

        return download.manifest(self._registry, digest, _ACCEPT).content

    def blob(self, digest: str, size: int, out: IO[bytes], advance: Advance) -> None:
        """Write a blob to an empty file."""
        from images.oci.registry import download

        download.blob(self._registry, digest, size, out, advance)


class _Layout:
    """An image in an OCI layout."""

    def __init__(self, reference: BaseReference, directory: Path) -> None:
        self._reference = reference
        self._directory = directory

    def manifest(self, digest: str) -> bytes:
        """Return a manifest or an index."""
        content = b"".join(self._read(digest, limits.DOCUMENT))
        if hashlib.sha256(content).hexdigest() != _hex(digest):
            raise self._damaged(digest)
        return content

    def blob(self, digest: str, size: int, out: IO[bytes], advance: Advance) -> None:
        """Write a blob to an empty file."""
        found, count = hashlib.sha256(), 0
        for piece in self._read(digest, size):
            out.write(piece)
            found.update(piece)
            count += len(piece)
            advance(len(piece))
        if found.hexdigest() != _hex(digest) or count != size:
            raise self._damaged(digest)

    def _read(self, digest: str, most: int) -> Iterator[bytes]:
        path = self._directory / "blobs" / "sha256" / _hex(digest)
        left = most + 1  # one more than allowed: then it is known to be too large
        try:
            with untrusted_files.open_regular(path) as stream:
                while piece := stream.read(min(_CHUNK, left)):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise FetchError(
                f"{self._reference}: the layout {self._directory} has no {digest}: "
                f"{error.strerror}",
                remedy="name the directory with blobs/ and index.json in it; a relative one starts "
                "where the matrix file is",
            ) from error

    def _damaged(self, digest: str) -> IntegrityError:
        return IntegrityError(
            f"{self._reference}: blob {digest} of the layout {self._directory} has other bytes",
            remedy="copy the image into the layout again, e.g. with skopeo copy",
        )


def _write(out: IO[bytes], content: bytes) -> None:
    out.write(content)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
