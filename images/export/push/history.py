"""History of a store's pushes: which of its blobs each repository has, and the last image there.

The blobs can be mounted from there by the next push, and one request for the last image finds out
which of them a new one still lacks. There is one file per repository in the store's
`.roll/pushed/`. It is only a hint: a blob that is gone from a repository is sent again. All names
of repositories are canonical (`images.oci.reference.canonical`): `HOST` and `HOST:443` are one
registry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from images.errors import StoreError
from images.oci.reference import Repository
from images.oci.store.store import Store
from images.util import untrusted_json

_DIRECTORY = "pushed"


@dataclass(frozen=True)
class _Record:
    """The content of one file."""

    registry: str
    repository: str
    last: str | None
    blobs: frozenset[str]


def known(store: Store, registry: str) -> dict[str, frozenset[str]]:
    """Return the digests that this store pushed to that registry, by repository."""
    names = store.files.names(_DIRECTORY)
    records = [record for name in names if (record := _read(store, name))]
    return {record.repository: record.blobs for record in records if record.registry == registry}


def last_image(store: Store, repository: Repository) -> str | None:
    """Return the digest of the manifest that this store pushed there last, under any tag."""
    record = _own(store, repository)
    return record.last if record else None


def note(
    store: Store, repository: Repository, digests: Iterable[str], manifest: str | None = None
) -> None:
    """Record that the blobs are in the repository, and an image of them under that digest.

    Digests that the store no longer has are dropped, so that the file does not grow. A store that
    cannot be written keeps its old record.
    """
    record = _own(store, repository)
    before, last = (record.blobs, record.last) if record else (frozenset(), None)
    now = {digest for digest in before if _has(store, digest)} | set(digests)
    if now == before and manifest in (None, last):
        return
    document = {
        "registry": repository.registry,
        "repository": repository.name,
        "last": manifest or last,
        "blobs": sorted(now),
    }
    # Of two pushes at once, the file of the last one stays, whole.
    with suppress(StoreError):
        store.files.write(_name(repository), json.dumps(document, indent=1).encode())


def _own(store: Store, repository: Repository) -> _Record | None:
    return _read(store, _name(repository))


def _read(store: Store, name: str) -> _Record | None:
    """Read a file; None if there is none, or it is damaged."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        document = untrusted_json.loads(store.files.read(name) or b"")
        last = document.get("last")  # files of earlier versions have none
        return _Record(
            str(document["registry"]),
            str(document["repository"]),
            str(last) if last else None,
            frozenset(map(str, document["blobs"])),
        )
    return None


def _has(store: Store, digest: str) -> bool:
    try:
        return store.blobs.path(digest).exists()
    except StoreError:
        return False


def _name(repository: Repository) -> str:
    return f"{_DIRECTORY}/{hashlib.sha256(str(repository).encode()).hexdigest()[:32]}.json"
