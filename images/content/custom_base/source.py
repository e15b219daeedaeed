"""The documents and layers of an own base: out of its registry or layout, into the download cache.

They are kept there like every other locked file, as `<sha256>/<name>`: a build that finds them asks
nobody, and they travel with the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from images.errors import FetchError, IntegrityError, StoreError
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where an own base is looked for and kept.

    Attributes:
        cache: the download cache.
        matrix: the matrix file, from which a layout's relative directory starts.
        plain_http: talk to registries without TLS.
        offline: the command that brings what is missing, when no network may be used; "" when one
            may.
        has: whether a layer is at hand elsewhere (in the store), by digest and size.
    """

    cache: Path
    matrix: Path
    plain_http: bool = False
    offline: str = ""
    has: Callable[[str, int], bool] = lambda digest, size: False


class _Source(Protocol):
    """Where an image is."""

    def manifest(self, digest: str) -> bytes:
        """The bytes of a manifest or an index; they have the digest."""

    def blob(self, digest: str, size: int, out: IO[bytes], advance: Advance) -> None:
        """Write a blob to an empty file; what was written has the digest and the size."""


class CachedImageSource:
    """Gives what is in the cache, and brings what is not. Use it as a context manager.

    Args:
        reference: the base.
        place: where.
    """

    def __init__(self, reference: BaseReference, place: Place) -> None:
        self._reference = reference
        self._place = place
        self._source: _Source | None = None
        self._stack = ExitStack()

    def __enter__(self) -> CachedImageSource:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def manifest(self, digest: str) -> bytes:
        """A manifest or an index.

        Raises:
            FetchError: it is not in the cache, and no network may be used.
            RegistryError, IntegrityError, StoreError: it cannot be had or kept.
        """
        found = self._kept(digest, "manifest.json")
        if found is None:
            found = self._opened(f"manifest {digest}").manifest(digest)
            self._keep(digest, "manifest.json", lambda out: _write(out, found or b""))
        return found

    def config(self, digest: str, size: int) -> bytes:
        """A config; raises as `manifest`."""
        found = self._kept(digest, "config.json")
        if found is None:
            self._bring(digest, size, "config.json", lambda _: None)
            found = self._kept(digest, "config.json")
        if found is None:
            raise IntegrityError(
                f"{self._reference}: its config {digest} is larger than allowed",
                remedy="name another image under `base:` in matrix.yaml",
            )
        return found

    def layer(self, digest: str, size: int, advance: Advance) -> None:
        """See that a layer is in the cache, or at hand elsewhere; raises as `manifest`."""
        there = download_cache.is_cached(layer_artifact(digest, size), self._place.cache)
        if there or self._place.has(digest, size):
            advance(size)
        else:
            self._bring(digest, size, _LAYER, advance)

    def _kept(self, digest: str, name: str) -> bytes | None:
        path = self._place.cache / _hex(digest) / name
        try:
            content = untrusted_files.whole(path, limits.DOCUMENT)
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == _hex(digest) else None

    def _bring(self, digest: str, size: int, name: str, advance: Advance) -> None:
        source = self._opened(f"{name.partition('.')[0]} {digest}")
        self._keep(digest, name, lambda out: source.blob(digest, size, out, advance))

    def _keep(self, digest: str, name: str, write: Callable[[IO[bytes]], None]) -> None:
        path = self._place.cache / _hex(digest) / name
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
            reference, place = self._reference, self._place
            if place.offline:
                raise FetchError(
                    f"{place.cache}: the {what} of the base {reference} is not in the download "
                    "cache",
                    remedy=f"where there is a network: {place.offline}",
                )
            if reference.repository is None:
                self._source = _Layout(reference, reference.directory(place.matrix))
            else:
                from images.oci.registry.client import Registry

                registry = Registry(
                    reference.repository, plain_http=place.plain_http, actions="pull"
                )
                self._source = _Remote(self._stack.enter_context(registry))
        return self._source


_LAYER = "layer"


def layer_artifact(digest: str, size: int) -> Artifact:
    """A base's layer as a file of the cache."""
    return Artifact(_LAYER, _hex(digest), size)


def document_artifact(name: str, digest: str, content: bytes) -> Artifact:
    """A base's document (`manifest` or `config`) as a file of the cache."""
    return Artifact(f"{name}.json", _hex(digest), len(content))


class _Remote:
    """An image in a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def manifest(self, digest: str) -> bytes:
        """As `_Source` says."""
        from images.oci.registry import download

        return download.manifest(self._registry, digest, _ACCEPT).content

    def blob(self, digest: str, size: int, out: IO[bytes], advance: Advance) -> None:
        """As `_Source` says."""
        from images.oci.registry import download

        download.blob(self._registry, digest, size, out, advance)


class _Layout:
    """An image in an OCI layout."""

    def __init__(self, reference: BaseReference, directory: Path) -> None:
        self._reference = reference
        self._directory = directory

    def manifest(self, digest: str) -> bytes:
        """As `_Source` says."""
        content = b"".join(self._read(digest, limits.DOCUMENT))
        if hashlib.sha256(content).hexdigest() != _hex(digest):
            raise self._damaged(digest)
        return content

    def blob(self, digest: str, size: int, out: IO[bytes], advance: Advance) -> None:
        """As `_Source` says."""
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
