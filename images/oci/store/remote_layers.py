"""Layers that a store knows and does not hold: their records, and the registry that has them.

Specification: OCI image layout 1.0, "Blobs", allows it: "The blobs directory MAY be missing
referenced blobs, in which case the missing blobs SHOULD be fulfilled by an external blob store".
skopeo and podman do not look elsewhere: for them `images.oci.registry.backfill` brings the blobs
first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from images.oci.descriptor import Blob
from images.oci.reference import Repository, canonical
from images.util import untrusted_json


@dataclass(frozen=True, slots=True)
class Place:
    """Where blobs can be had.

    Attributes:
        repository: which one.
        plain_http: whether it is asked without TLS: as whoever named it allowed.
    """

    repository: Repository
    plain_http: bool

    def __str__(self) -> str:
        return str(self.repository)

    @property
    def canonical(self) -> Repository:
        """The repository in the one spelling that all others of it have."""
        return canonical(self.repository, plain_http=self.plain_http)


@dataclass(frozen=True, slots=True)
class Remote:
    """A layer that lies elsewhere.

    Attributes:
        key: the digest of the layer's inputs.
        blob: the layer.
        place: who has its bytes.
    """

    key: str
    blob: Blob
    place: Place


def dump(remotes: Iterable[Remote]) -> bytes:
    """The records as a JSON document."""
    documents = [
        {
            "blob": asdict(remote.blob),
            "key": remote.key,
            "place": {
                "plain_http": remote.place.plain_http,
                "registry": remote.place.repository.registry,
                "repository": remote.place.repository.name,
            },
        }
        for remote in sorted(remotes, key=lambda remote: remote.key)
    ]
    return json.dumps({"layers": documents}, indent=1, sort_keys=True).encode()


def parse(content: bytes) -> list[Remote]:
    """The records of a document of `dump`.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    return [_remote(item) for item in untrusted_json.loads(content)["layers"]]


def _remote(item: dict[str, Any]) -> Remote:
    where = item["place"]
    place = Place(Repository(where["registry"], where["repository"]), where["plain_http"])
    return Remote(item["key"], Blob(**item["blob"]), place)
