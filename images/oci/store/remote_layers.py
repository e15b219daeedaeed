"""Layers that a store knows and does not have: their records, and the registry that has them.

Specification: OCI image layout 1.0, "Blobs", allows it: "The blobs directory MAY be missing
referenced blobs, in which case the missing blobs SHOULD be fulfilled by an external blob store".
skopeo and podman do not look elsewhere: for them `images.oci.registry.backfill` downloads the blobs
first.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from images.oci.descriptor import Blob
from images.oci.reference import Repository, canonical
from images.oci.store.blobs import NOT_A_DOCUMENT, Blobs
from images.oci.store.files import INDEX_LOCK, Files
from images.util import limits, untrusted_files, untrusted_json


@dataclass(frozen=True, slots=True)
class Location:
    """A repository from which blobs are available.

    Attributes:
        repository: which one.
        plain_http: whether it is asked without TLS, as whoever named it allowed.
    """

    repository: Repository
    plain_http: bool

    def __str__(self) -> str:
        return str(self.repository)

    @property
    def canonical(self) -> Repository:
        """The repository in its canonical spelling."""
        return canonical(self.repository, plain_http=self.plain_http)


@dataclass(frozen=True, slots=True)
class RemoteLayer:
    """A layer that is in a registry.

    Attributes:
        key: the digest of the layer's inputs.
        blob: the layer.
        location: the repository that has its bytes.
    """

    key: str
    blob: Blob
    location: Location


class RemoteLayers:
    """What `.roll/remotes.json` records of layers that registries have.

    Args:
        files: of the store.
        blobs: of the store.
    """

    def __init__(self, files: Files, blobs: Blobs) -> None:
        self._files = files
        self._blobs = blobs
        self._path = files.private / "remotes.json"

    def missing_here(self) -> dict[str, RemoteLayer]:
        """Return the layers that a registry has and the store does not, by digest."""
        found = {item.blob.digest: item for item in self.recorded()}
        return {
            digest: item
            for digest, item in found.items()
            if not self._blobs.has(digest, item.blob.size)
        }

    def recorded(self) -> list[RemoteLayer]:
        """Return all that is recorded, also layers that the store has got since."""
        try:
            found = parse(untrusted_files.whole(self._path, limits.LIST))
            for item in found:
                self._blobs.path(item.blob.digest)
            return found
        except (OSError, *NOT_A_DOCUMENT):  # then `verify` reports their blobs as missing
            return []

    def record(self, remotes: Iterable[RemoteLayer]) -> None:
        """Record the registry that has layers or sent them, beside what was recorded before."""
        new = {item.blob.digest: item for item in remotes}
        if new:
            with self._files.locked(INDEX_LOCK):
                self._write({**{item.blob.digest: item for item in self.recorded()}, **new})

    def keep(self, digests: Collection[str]) -> None:
        """Forget all layers but these; the lock of the index must be held."""
        found = {item.blob.digest: item for item in self.recorded()}
        self._write({digest: item for digest, item in found.items() if digest in digests})

    def _write(self, remotes: dict[str, RemoteLayer]) -> None:
        if remotes or self._path.exists():
            self._files.replace(self._path, dump(remotes.values()))


def dump(remotes: Iterable[RemoteLayer]) -> bytes:
    """Return the records as a JSON document."""
    documents = [
        {
            "blob": asdict(remote.blob),
            "key": remote.key,
            "place": {
                "plain_http": remote.location.plain_http,
                "registry": remote.location.repository.registry,
                "repository": remote.location.repository.name,
            },
        }
        for remote in sorted(remotes, key=lambda remote: remote.key)
    ]
    return json.dumps({"layers": documents}, indent=1, sort_keys=True).encode()


def parse(content: bytes) -> list[RemoteLayer]:
    """Return the records of a document of `dump`.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    return [_remote(item) for item in untrusted_json.loads(content)["layers"]]


def _remote(item: dict[str, Any]) -> RemoteLayer:
    at = item["place"]
    location = Location(Repository(at["registry"], at["repository"]), at["plain_http"])
    return RemoteLayer(item["key"], Blob(**item["blob"]), location)
