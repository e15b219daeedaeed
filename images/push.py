"""An image from the store into a registry: its blobs first, then its manifest, then its tag.

Specification: OCI Distribution Spec 1.1, "Pushing". What the registry has is not sent; what another
of its repositories has is mounted. A push may break off at any moment: the tag then is what it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from images import complete, jsontext, push_memory, reference, registry_referrers, upload
from images.at_once import QUESTIONS, at_once
from images.errors import IntegrityError, LoginError, RegistryError
from images.image import Image
from images.progress import Progress
from images.reference import Repository
from images.referrer import Referrer
from images.registry import MissingError, Registry
from images.registry_referrers import Attached
from images.retry import PassingError
from images.store import Store
from images.upload import Sizes, Source

_MISSES = 3  # mounts refused in a row, of what should be there, after which no more are tried

State = Literal["sent", "mounted", "present"]


@dataclass(frozen=True, slots=True)
class PushedBlob:
    """A blob of the image, and how it got into the repository."""

    digest: str
    size: int
    state: State


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        target: the image's name in the store.
        repository: where it is now.
        tag: the tag that names it there.
        manifest_digest: as in the store, and as the registry tells.
        blobs: the layers, lowest first, then the config.
        bytes_sent: bodies of requests, with what had to be sent twice.
        unchanged: whether the tag named this very image before.
        attached: documents about the image that are there as well.
        before: the digest that the tag named before, None if there was no such tag.
    """

    target: str
    repository: Repository
    tag: str
    manifest_digest: str
    blobs: tuple[PushedBlob, ...]
    bytes_sent: int
    unchanged: bool
    attached: tuple[Attached, ...] = ()
    before: str | None = None

    @property
    def reference(self) -> str:
        """What it can be pulled by, forever: `REGISTRY/REPOSITORY@sha256:…`."""
        return f"{self.repository}@{self.manifest_digest}"


def push(
    store: Store,
    image: Image,
    registry: Registry,
    tag: str,
    *,
    referrers: Sequence[Referrer] = (),
    mount_from: Sequence[str] = (),
    jobs: int,
    progress: Progress,
) -> Pushed:
    """Push one image; the registry's answers confirm each step.

    Args:
        store: where the blobs are.
        image: the image.
        registry: the repository that it goes to.
        tag: the name that it gets there, last of all.
        referrers: documents about it, to be there before it has its name.
        mount_from: names of further repositories of that registry that may have its blobs.
        jobs: uploads at a time.
        progress: told of the bytes sent.

    Raises:
        UsageError: the tag is one that never moves, and names another image.
        RegistryError: the registry refuses or cannot be reached.
        IntegrityError: a blob in the store is damaged or missing, and the registry lacks it.
    """
    sources = _sources(store, image)
    with progress.timed("ask"):
        before = registry.manifest_digest(tag)
        unchanged = before == image.manifest_digest
        if not unchanged:
            reference.check_moves(registry.repository, tag, before)
        like = before or push_memory.last_image(store, registry.repository)
        known = _blobs_of(registry, like) if like and not unchanged else frozenset()
    states: dict[str, State] = dict.fromkeys(sources, "present")
    sent = 0
    if not unchanged:
        bringing = partial(
            bring, store, registry, mount_from=mount_from, jobs=jobs, progress=progress
        )
        how, sent = _put(image, sources, registry, known, bringing, progress)
        states |= how
        sent += 2 * len(image.manifest)
    with progress.timed("attest"):
        attached, more = registry_referrers.attach(registry, store, referrers)
    if not unchanged:
        with progress.timed("tag"):
            registry.put_manifest(tag, image.manifest)
    push_memory.note(store, registry.repository, sources, image.manifest_digest)
    blobs = (PushedBlob(item.digest, item.size, states[item.digest]) for item in sources.values())
    return Pushed(
        image.ref,
        registry.repository,
        tag,
        image.manifest_digest,
        tuple(blobs),
        sent + more,
        unchanged,
        tuple(attached),
        before,
    )


def _sources(store: Store, image: Image) -> dict[str, Source]:
    sizes = {layer.blob.digest: layer.blob.size for layer in image.layers}
    sizes[image.config_digest] = len(image.config)
    return {digest: Source(store.blob_path(digest), digest, size) for digest, size in sizes.items()}


def _put(
    image: Image,
    sources: Mapping[str, Source],
    registry: Registry,
    known: Collection[str],
    bringing: Callable[[Sequence[Source]], tuple[dict[str, State], int]],
    progress: Progress,
) -> tuple[dict[str, State], int]:
    """Bring the blobs, those that are not known to be there; then the manifest.

    Under its digest first: what a registry would alter never gets the tag.
    """

    def put() -> None:
        with progress.timed("manifest"):
            registry.put_manifest(image.manifest_digest, image.manifest)

    states, sent = bringing([item for digest, item in sources.items() if digest not in known])
    try:
        put()
    except MissingError:  # the image that was asked for instead has lost blobs
        again, more = bringing([item for digest, item in sources.items() if digest in known])
        put()
        return states | again, sent + more
    return states, sent


def _blobs_of(registry: Registry, digest: str) -> frozenset[str]:
    """The blobs of an image in the repository: they are there, as long as it is.

    To ask for each of them takes longer than to push what is new.
    """
    with suppress(RegistryError, IntegrityError, PassingError, ValueError, KeyError, TypeError):
        if found := registry.manifest(digest):
            head = jsontext.loads(found.content)
            return frozenset(item["digest"] for item in (*head["layers"], head["config"]))
    return frozenset()


def bring(
    store: Store,
    registry: Registry,
    sources: Sequence[Source],
    mount_from: Sequence[str],
    jobs: int,
    progress: Progress,
) -> tuple[dict[str, State], int]:
    """Bring blobs into a repository; gives how each got there, and the bytes sent.

    What the store does not hold itself is fetched only where it can be neither found nor mounted.

    Raises:
        As `push`.
    """
    break_off = registry.exchange.close
    with progress.timed("ask"):
        there = at_once(
            lambda item: registry.has_blob(item.digest, item.size), sources, QUESTIONS, break_off
        )
        lacking = [item for item, has in zip(sources, there, strict=True) if not has]
        mounts = _Mounts(store, registry, mount_from)
        mounted = at_once(mounts.mount, lacking, QUESTIONS, break_off)
    taken = {item.digest for item, done in zip(lacking, mounted, strict=True) if done}
    # The largest first: a large one that begins last would be alone at the end.
    rest = sorted((i for i in lacking if i.digest not in taken), key=lambda item: -item.size)
    complete.complete(store, (item.digest for item in rest), progress=progress, jobs=jobs)
    sent = _send(registry, rest, jobs, progress) if rest else 0
    states: dict[str, State] = {item.digest: "present" for item in sources}
    states |= dict.fromkeys(taken, "mounted")
    states |= {item.digest: "sent" for item in rest}
    return states, sent


def _send(registry: Registry, sources: Sequence[Source], jobs: int, progress: Progress) -> int:
    sizes = Sizes()
    with progress.stage("push", sum(item.size for item in sources)) as meter:
        sent = at_once(
            lambda item: upload.send(registry, item, meter.advance, sizes),
            sources,
            jobs,
            registry.exchange.close,
        )
    return sum(sent)


class _Mounts:
    """Tries the repositories that may have a blob, those that surely had it first."""

    def __init__(self, store: Store, registry: Registry, named: Sequence[str]) -> None:
        self._registry = registry
        own = registry.repository
        self._known = {
            name: set(digests) for name, digests in push_memory.known(store, own.registry).items()
        }
        for digest, remote in store.remotes().items():
            if remote.place.repository.registry == own.registry:
                self._known.setdefault(remote.place.repository.name, set()).add(digest)
        self._known.pop(own.name, None)
        self._named = [name for name in named if name != own.name]
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
            done = self._registry.mount(digest, name)
        except LoginError:  # it may push here, and not read there
            self._given_up.add(name)
            return False
        self._misses[name] += -_MISSES if done else sure
        if self._misses[name] >= _MISSES:  # a registry that does not mount, or a repository gone
            self._given_up.add(name)
        return done
