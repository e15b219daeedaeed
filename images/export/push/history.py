"""What of a store was pushed where: its blobs can be mounted from there the next time, and the last
image there tells with one answer which of them a new one still lacks.

One private file of the store for each repository. It is only a hint: a blob that is gone from a
repository is sent again. Repositories are given in their canonical spelling
(`images.oci.reference.canonical`): `HOST` and `HOST:443` are one registry.
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
class _Memory:
    """What one file holds."""

    registry: str
    repository: str
    last: str | None
    blobs: frozenset[str]


def known(store: Store, registry: str) -> dict[str, frozenset[str]]:
    """The digests by repository of that registry, as far as this store pushed them."""
    names = store.files.names(_DIRECTORY)
    memories = [memory for name in names if (memory := _read(store, name))]
    return {memory.repository: memory.blobs for memory in memories if memory.registry == registry}


def last_image(store: Store, repository: Repository) -> str | None:
    """The digest of the manifest that this store pushed there last, under whatever tag."""
    memory = _own(store, repository)
    return memory.last if memory else None


def note(
    store: Store, repository: Repository, digests: Iterable[str], manifest: str | None = None
) -> None:
    """Remember that the blobs are in the repository, and an image of them under that digest.

    Digests that the store has no more are forgotten: so the file does not grow. A store that
    cannot be written only forgets.
    """
    memory = _own(store, repository)
    before, last = (memory.blobs, memory.last) if memory else (frozenset(), None)
    now = {digest for digest in before if _has(store, digest)} | set(digests)
    if now == before and manifest in (None, last):
        return
    document = {
        "registry": repository.registry,
        "repository": repository.name,
        "last": manifest or last,
        "blobs": sorted(now),
    }
    # Two pushes at once: the last one's file stays, whole.
    with suppress(StoreError):
        store.files.write(_name(repository), json.dumps(document, indent=1).encode())


def _own(store: Store, repository: Repository) -> _Memory | None:
    return _read(store, _name(repository))


def _read(store: Store, name: str) -> _Memory | None:
    """Return what a file holds; None if there is none, or a damaged one."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        document = untrusted_json.loads(store.files.read(name) or b"")
        last = document.get("last")  # files of before know none
        return _Memory(
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
