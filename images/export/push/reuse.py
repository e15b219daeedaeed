"""What need not be sent: blobs that a repository has, or that another of the registry gives.

To ask and to mount only saves work. An answer that is odd, refused or never comes means that the
blob is sent; after some of these nothing more is asked.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from images.errors import LoginError, RegistryError
from images.export.push import history
from images.oci.registry.client import Registry
from images.oci.registry.upload import Source
from images.oci.store.store import Store

_MISSES = 3
"""Failures after which no more is tried: a registry or a repository that does not do it."""


@dataclass(frozen=True, slots=True)
class Mounting:
    """Which repositories of the registry blobs may be taken over from.

    Attributes:
        named: names of those that somebody asked for.
        known: take those as well that this store was pushed to, or has layers from.
    """

    named: Sequence[str] = ()
    known: bool = True


NOTHING = Mounting(known=False)


class Savings:
    """Asks, and takes over; shared by the threads of a push.

    Args:
        registry: the repository that is pushed to.
        readable: whether the login may read there, as far as is known.
    """

    def __init__(self, registry: Registry, *, readable: bool = True) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._left = dict.fromkeys(("asking for blobs", "mounting blobs"), _MISSES)
        self._notes: dict[str, str] = {}
        if not readable:
            self._left = dict.fromkeys(self._left, 0)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each saving that was given up."""
        return tuple(self._notes.values())

    def has(self, source: Source) -> bool:
        """Whether the registry says that the blob is there."""
        return self._tried(
            "asking for blobs", lambda: self._registry.has_blob(source.digest, source.size)
        )

    def mount(self, digest: str, name: str) -> bool:
        """Whether another repository gave the blob.

        Raises:
            LoginError: that repository may not be read.
        """
        return self._tried("mounting blobs", lambda: self._registry.mount(digest, name))

    def _tried(self, what: str, ask: Callable[[], bool]) -> bool:
        if self._left[what] <= 0:
            return False
        try:
            return ask()
        except LoginError:
            if what == "mounting blobs":
                raise
            self._failed(what, "the login may not read there")
        except RegistryError as error:
            self._failed(what, error.message)
        return False

    def _failed(self, what: str, why: str) -> None:
        with self._lock:
            self._left[what] -= 1
            if self._left[what] <= 0:
                self._notes.setdefault(what, f"{what} was given up, so they are sent: {why}")


class Mounts:
    """Tries the repositories that may have a blob, those that surely had it first."""

    def __init__(self, store: Store, registry: Registry, which: Mounting, savings: Savings) -> None:
        own = registry.canonical
        self._savings = savings
        self._known = _known(store, registry) if which.known else {}
        self._known.pop(own.name, None)
        self._named = [name for name in which.named if name != own.name]
        self._given_up: set[str] = set()
        self._misses: Counter[str] = Counter()

    def mount(self, source: Source) -> bool:
        """Whether one of them gave the blob."""
        sure = [name for name, digests in self._known.items() if source.digest in digests]
        return any(
            self._try(source.digest, name, sure=name in sure)
            for name in dict.fromkeys([*sure, *self._named])
        )

    def _try(self, digest: str, name: str, *, sure: bool) -> bool:
        if name in self._given_up:
            return False
        try:
            done = self._savings.mount(digest, name)
        except LoginError:  # it may push here, and not read there
            self._given_up.add(name)
            return False
        self._misses[name] += -_MISSES if done else sure
        if self._misses[name] >= _MISSES:  # a registry that does not mount, or a repository gone
            self._given_up.add(name)
        return done


def _known(store: Store, registry: Registry) -> dict[str, set[str]]:
    """The digests of blobs by the repository of that registry that had them."""
    own = registry.canonical.registry
    found = {name: set(digests) for name, digests in history.known(store, own).items()}
    for digest, remote in store.remote_layers.missing_here().items():
        if (there := remote.location.canonical).registry == own:
            found.setdefault(there.name, set()).add(digest)
    return found
