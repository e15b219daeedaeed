"""Reuse of blobs that the repository has, or that can be mounted from another one of the registry.

These requests only save work. If a response is unexpected, refused or never arrives, the blob is
sent; after some of these failures no more such requests are made.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from images.errors import LoginError, RegistryError
from images.export.push import history
from images.oci.registry import upload_session
from images.oci.registry.client import Registry
from images.oci.registry.upload import StoredBlob
from images.oci.store.store import Store

_MAX_FAILURES = 3
"""Failures after which a kind of request, or a repository to mount from, is given up."""


@dataclass(frozen=True, slots=True)
class MountSources:
    """The repositories of the registry that blobs may be mounted from.

    Attributes:
        named: names of those that an option names.
        known: include those that this store was pushed to, or has layers from.
    """

    named: Sequence[str] = ()
    known: bool = True


NO_MOUNTS = MountSources(known=False)


class BlobReuse:
    """Requests that save an upload; shared by the threads of a push.

    Args:
        registry: the repository that is pushed to.
        readable: whether the login may read there, as far as is known.
    """

    def __init__(self, registry: Registry, *, readable: bool = True) -> None:
        self._registry = registry
        self._existence = _OptionalRequests("asking for blobs", enabled=readable)
        self._mounts = _OptionalRequests("mounting blobs", enabled=readable)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each kind of request that was given up."""
        return tuple(kind.note for kind in (self._existence, self._mounts) if kind.note)

    def has(self, blob: StoredBlob) -> bool:
        """Return whether the registry reports that the blob is there."""
        try:
            return self._existence.make(lambda: self._registry.has_blob(blob.digest, blob.size))
        except LoginError:
            self._existence.failed("the login may not read there")
            return False

    def mount(self, digest: str, name: str) -> bool:
        """Return whether the blob was mounted from another repository.

        Raises:
            LoginError: the login may not read that repository.
        """
        return self._mounts.make(lambda: upload_session.mount(self._registry, digest, name))


class _OptionalRequests:
    """One kind of request, given up after some failures."""

    def __init__(self, name: str, *, enabled: bool) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._left = _MAX_FAILURES if enabled else 0
        self.note: str | None = None

    def make(self, request: Callable[[], bool]) -> bool:
        """Return the answer to a request; False if it failed, or none is made any more.

        Raises:
            LoginError: the login may not make it.
        """
        if self._left <= 0:
            return False
        try:
            return request()
        except LoginError:
            raise
        except RegistryError as error:
            self.failed(error.message)
            return False

    def failed(self, reason: str) -> None:
        """Count a failure."""
        with self._lock:
            self._left -= 1
            if self._left <= 0 and self.note is None:
                self.note = f"{self._name} was given up, so they are sent: {reason}"


class Mounter:
    """Tries the repositories that may have a blob; first those that are known to have had it."""

    def __init__(
        self, store: Store, registry: Registry, sources: MountSources, reuse: BlobReuse
    ) -> None:
        own = registry.canonical
        self._reuse = reuse
        self._known = _known(store, registry) if sources.known else {}
        self._known.pop(own.name, None)
        self._named = [name for name in sources.named if name != own.name]
        self._given_up: set[str] = set()
        self._misses: Counter[str] = Counter()

    def mount(self, blob: StoredBlob) -> bool:
        """Return whether the blob was mounted from one of them."""
        known = [name for name, digests in self._known.items() if blob.digest in digests]
        return any(
            self._try(blob.digest, name, known=name in known)
            for name in dict.fromkeys([*known, *self._named])
        )

    def _try(self, digest: str, name: str, *, known: bool) -> bool:
        if name in self._given_up:
            return False
        try:
            mounted = self._reuse.mount(digest, name)
        except LoginError:  # it may push here, and not read there
            self._given_up.add(name)
            return False
        self._misses[name] += -_MAX_FAILURES if mounted else known
        if self._misses[name] >= _MAX_FAILURES:  # a registry without mounts, or a repository gone
            self._given_up.add(name)
        return mounted


def _known(store: Store, registry: Registry) -> dict[str, set[str]]:
    """Return the digests of blobs by the repository of that registry that had them."""
    own = registry.canonical.registry
    found = {name: set(digests) for name, digests in history.known(store, own).items()}
    for digest, remote in store.remote_layers.missing_here().items():
        if (there := remote.location.canonical).registry == own:
            found.setdefault(there.name, set()).add(digest)
    return found
