"""Which blobs of a store were pushed where: what can be mounted from there the next time.

One file for each repository in the store's `.roll/pushed/`. It is only a hint: a blob that is gone
from a repository is sent again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress

from images import jsontext
from images.errors import StoreError
from images.reference import Repository
from images.store import Store

_PLACE = "pushed"


def known(store: Store, registry: str) -> dict[str, frozenset[str]]:
    """The digests by repository of that registry, as far as this store pushed them."""
    found = {}
    for path in sorted((store.path / ".roll" / _PLACE).glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = jsontext.loads(path.read_bytes())
            if document["registry"] == registry:
                found[str(document["repository"])] = frozenset(map(str, document["blobs"]))
    return found


def note(store: Store, repository: Repository, digests: Iterable[str]) -> None:
    """Remember that the blobs are in the repository.

    Digests that the store has no more are forgotten: so the file does not grow. A store that
    cannot be written only forgets.
    """
    before = known(store, repository.registry).get(repository.name, frozenset())
    now = {digest for digest in before if _has(store, digest)} | set(digests)
    if now == before:
        return
    document = {
        "registry": repository.registry,
        "repository": repository.name,
        "blobs": sorted(now),
    }
    # Two pushes at once: the last one's file stays, whole.
    with suppress(StoreError):
        store.note(_name(repository), json.dumps(document, indent=1).encode())


def _has(store: Store, digest: str) -> bool:
    try:
        return store.blob_path(digest).exists()
    except StoreError:
        return False


def _name(repository: Repository) -> str:
    return f"{_PLACE}/{hashlib.sha256(str(repository).encode()).hexdigest()[:32]}.json"
