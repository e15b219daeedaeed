"""Shared caches of a build: it reads any number of them, and fills one.

A build never fails because of a cache that it reads: what cannot be read is looked up in the next
one, or made here.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from images.build import cache_records
from images.build.builder import BuiltLayer, CacheLookup
from images.build.recipe import Recipe
from images.errors import IntegrityError, RegistryError, UsageError
from images.export.push import history
from images.export.push.transfer import Route, transfer_blobs
from images.http.retry import Policy
from images.oci.descriptor import digest_of
from images.oci.reference import parse
from images.oci.referrer import EMPTY
from images.oci.registry import upload
from images.oci.registry.client import Registry
from images.oci.registry.concurrency import REQUESTS
from images.oci.registry.upload import BodyLimit, StoredBlob
from images.oci.store.remote_layers import Location, RemoteLayer
from images.oci.store.store import Store
from images.util.parallel import map_all
from images.util.progress import Progress

_POLICY = Policy(max_attempts=3, max_attempts_unreached=2, max_delay=4.0, max_retry_after=10.0)
"""Policy for reading: the time that a cache saves must not be spent on waiting for it."""

_TIMEOUT = 30.0
"""Seconds for all lookups in a cache, even if it answers a byte now and then."""

_AGAIN = 0.5  # seconds; a request that was still connecting when it was cancelled is cancelled then


def location(text: str, *, plain_http: bool) -> Location:
    """Return the cache that an option names.

    Raises:
        UsageError: it is not `REGISTRY/REPOSITORY`.
    """
    repository, tag = parse(text)
    if tag:
        raise UsageError(
            f"{text}: a cache has no tag", remedy=f"name the repository alone: {repository}"
        )
    return Location(repository, plain_http)


@dataclass
class CacheFrom:
    """A cache that a build reads.

    Attributes:
        location: its repository.
        log: takes a line for the user.
        policy: of retries.
        otherwise: what is done about layers that it lacks, for the user.
        timeout: seconds for all lookups of a build.
    """

    location: Location
    log: Callable[[str], None]
    policy: Policy = _POLICY
    otherwise: str = "layers are made"
    timeout: float = _TIMEOUT
    _given_up: bool = field(default=False, init=False)

    def lookup(self, recipes: Sequence[Recipe]) -> dict[str, RemoteLayer]:
        """Return the layers that it has, by key; none where it cannot be read."""
        if self._given_up:
            return {}
        try:
            found = self._find([recipe.key for recipe in recipes])
        except RegistryError as error:
            self._given_up = True
            hint = f" ({error.remedy})" if error.remedy else ""
            self.log(f"warning: no cache at {self.location}, so {self.otherwise}: {error}{hint}")
            return {}
        for fault in found.faults:
            self.log(f"cache: {fault}")
        if not found.blobs:  # it may be no cache at all
            self.log(f"cache: {self.location}: knows 0 of {len(recipes)} layers")
        return {key: RemoteLayer(key, blob, self.location) for key, blob in found.blobs.items()}

    def _find(self, keys: Sequence[str]) -> cache_records.Found:
        late = threading.Event()
        registry = Registry(
            self.location.repository,
            plain_http=self.location.plain_http,
            policy=self.policy,
            actions="pull",
        )
        with registry, _cancelled_after(registry.transport.close, self.timeout, late):
            try:
                found = cache_records.find(registry, keys)
            except (CancelledError, RegistryError):
                if not late.is_set():
                    raise
        if late.is_set():  # what was found may be incomplete
            raise RegistryError(f"it has not answered everything within {self.timeout:.0f} s")
        return found


@contextmanager
def _cancelled_after(
    cancel: Callable[[], None], after: float, late: threading.Event
) -> Iterator[None]:
    """Call `cancel` after some seconds, and repeatedly until the context is left."""
    done = threading.Event()

    def watch() -> None:
        wait = after
        while not done.wait(wait):
            late.set()
            cancel()
            wait = _AGAIN

    watcher = threading.Thread(target=watch, name="deadline", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def read_all(
    locations: Sequence[Location], log: Callable[[str], None], policy: Policy = _POLICY
) -> CacheLookup:
    """Look layers up in several caches: the first that has one counts.

    Args:
        locations: the caches, in the order in which they are asked; each only for what those before
            it lack.
        log: takes a line for the user.
        policy: of retries.
    """
    last = len(locations) - 1
    caches = [
        CacheFrom(location, log, policy)
        if number == last
        else CacheFrom(location, log, policy, "the next one is asked")
        for number, location in enumerate(locations)
    ]

    def lookup(recipes: Sequence[Recipe]) -> dict[str, RemoteLayer]:
        found: dict[str, RemoteLayer] = {}
        for cache in caches:
            lacking = [recipe for recipe in recipes if recipe.key not in found]
            found |= cache.lookup(lacking) if lacking else {}
        return found

    return lookup


def check(where: Location) -> None:
    """Check that a cache can be written: it gets the two bytes that all records refer to.

    Raises:
        RegistryError: it cannot be reached, or refuses them.
    """
    connected = Registry(where.repository, plain_http=where.plain_http, policy=_POLICY)
    with connected as registry, tempfile.TemporaryDirectory() as directory:
        blob = _empty_config(Path(directory) / "config")
        upload.send(registry, blob, lambda _: None, BodyLimit())


@dataclass(frozen=True, slots=True)
class Filled:
    """The outcome of filling a cache.

    Attributes:
        location: its repository.
        records: layers that it did not know before.
        bytes_sent: bodies of requests, as far as they were blobs.
    """

    location: Location
    records: int
    bytes_sent: int


def fill(
    store: Store, made: Sequence[BuiltLayer], where: Location, *, jobs: int, progress: Progress
) -> Filled:
    """Put layers that a cache lacks into it: the blobs first, then the records.

    Args:
        store: where the blobs are.
        made: a build's layers.
        where: the cache.
        jobs: uploads at a time.
        progress: reports the bytes sent.

    Raises:
        RegistryError: the registry refuses or cannot be reached.
        IntegrityError: a blob in the store is damaged.
    """
    by_key = {item.key: item for item in made if item.location != where}
    if not by_key:
        return Filled(where, 0, 0)
    with Registry(where.repository, plain_http=where.plain_http) as registry:
        try:
            with progress.timed("ask"):
                known = cache_records.find(registry, list(by_key)).blobs
            new = [item for key, item in by_key.items() if key not in known]
            sent = _write(store, registry, new, jobs, progress) if new else 0
        except (RegistryError, IntegrityError) as error:
            message = f"the image is in the store, but not all of it in the cache: {error.message}"
            raise error.reworded(message) from error
    return Filled(where, len(new), sent)


def _write(
    store: Store, registry: Registry, new: Sequence[BuiltLayer], jobs: int, progress: Progress
) -> int:
    sizes = {item.layer.blob.digest: item.layer.blob.size for item in new}
    blobs = [StoredBlob(store.blobs.path(digest), digest, size) for digest, size in sizes.items()]
    with store.workdir() as workdir:
        blobs.append(_empty_config(workdir / "config"))
        sent = transfer_blobs(Route(store, registry, jobs, progress), blobs)
    history.note(store, registry.canonical, sizes)
    with progress.timed("records"):
        map_all(
            lambda item: cache_records.add(registry, item.key, item.layer.title, item.layer.blob),
            new,
            REQUESTS,
            registry.transport.close,
        )
    return sent


def _empty_config(path: Path) -> StoredBlob:
    path.write_bytes(EMPTY)
    digest = digest_of(EMPTY)
    return StoredBlob(path, digest, len(EMPTY))
