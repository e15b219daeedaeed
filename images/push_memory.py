"""What of a store was pushed where: its blobs can be mounted from there the next time, and the last
image there tells with one answer which of them a new one still lacks.

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


def last_image(store: Store, repository: Repository) -> str | None:
    """The digest of the manifest that this store pushed there last, under whatever tag."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        document = jsontext.loads((store.path / ".roll" / _name(repository)).read_bytes())
        return document["last"] and str(document["last"])
    return None


def note(
    store: Store, repository: Repository, digests: Iterable[str], manifest: str | None = None
) -> None:
    """Remember that the blobs are in the repository, and an image of them under that digest.

    Digests that the store has no more are forgotten: so the file does not grow. A store that
    cannot be written only forgets.
    """
    before = known(store, repository.registry).get(repository.name, frozenset())
    now = {digest for digest in before if _has(store, digest)} | set(digests)
    last = last_image(store, repository)
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
        store.note(_name(repository), json.dumps(document, indent=1).encode())


def _has(store: Store, digest: str) -> bool:
    try:
        return store.blob_path(digest).exists()
    except StoreError:
        return False


def _name(repository: Repository) -> str:
    return f"{_PLACE}/{hashlib.sha256(str(repository).encode()).hexdigest()[:32]}.json"
