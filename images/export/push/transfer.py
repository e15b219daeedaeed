"""An image's blobs into a repository, and its manifest under its digest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from images.export.push import zstd_probe
from images.export.push.reuse import NOTHING, Mounting, Mounts, Savings
from images.oci.image import Image
from images.oci.registry import backfill, manifests, upload
from images.oci.registry.client import Registry
from images.oci.registry.refusals import NotFoundError
from images.oci.registry.upload import Sizes, Source
from images.oci.store.store import Store
from images.util.parallel import QUESTIONS, at_once
from images.util.progress import Progress

State = Literal["sent", "mounted", "present"]


@dataclass(frozen=True, slots=True)
class PushedBlob:
    """A blob of the image, and how it got into the repository."""

    digest: str
    size: int
    state: State


def sources_of(store: Store, image: Image) -> dict[str, Source]:
    """The blobs of an image by digest: the layers, lowest first, then the config."""
    sizes = {layer.blob.digest: layer.blob.size for layer in image.layers}
    sizes[image.config_digest] = len(image.config)
    return {digest: Source(store.blob_path(digest), digest, size) for digest, size in sizes.items()}


class Bringing:
    """Brings an image's blobs, and its manifest under its digest.

    Under its digest first: what a registry would alter never gets the tag.

    Args:
        store: where the blobs are.
        image: the image.
        registry: the repository that it goes to.
        savings: what need not be sent.
        mounting: which repositories of that registry may give blobs.
        jobs: uploads at a time.
        progress: told of the bytes sent.
    """

    def __init__(
        self,
        store: Store,
        image: Image,
        registry: Registry,
        savings: Savings,
        mounting: Mounting,
        jobs: int,
        progress: Progress,
    ) -> None:
        self._store, self._image, self._registry = store, image, registry
        self._savings, self._mounting = savings, mounting
        self._jobs, self._progress = jobs, progress

    def all(
        self, sources: dict[str, Source], known: Collection[str], states: dict[str, State]
    ) -> int:
        """Bring what is not known to be there.

        Args:
            sources: all blobs, by digest.
            known: digests of those that need not even be asked for.
            states: how each blob got there; changed.

        Returns:
            The bytes of blobs sent.

        Raises:
            RegistryError: the registry refuses or cannot be reached.
            IntegrityError: a blob in the store is damaged or missing, and the registry lacks it.
        """
        rest = [item for digest, item in sources.items() if digest not in known]
        probe = partial(zstd_probe.check, self._store, self._image, self._registry, known)
        how, sent = self._bring(rest, self._savings, self._mounting, probe)
        states |= how
        with suppress(NotFoundError):
            self._manifest(patient=False)
            return sent
        # The image that was asked for instead has lost blobs, or a mount came to nothing.
        doubted = [item for digest, item in sources.items() if states[digest] != "sent"]
        how, more = self._bring(doubted, self._savings, NOTHING)
        states |= how
        try:
            self._manifest()
            return sent + more
        except NotFoundError as error:
            unsent = [item for digest, item in sources.items() if states[digest] != "sent"]
            lacking = [item for item in unsent if item.digest in error.lacking] or unsent
            if not lacking:
                raise
        # It says of a blob that it is there, and of the same that it is unknown.
        how, last = self._bring(lacking, Savings(self._registry, readable=False), NOTHING)
        states |= how
        self._manifest()
        return sent + more + last

    def _bring(
        self,
        sources: Sequence[Source],
        savings: Savings,
        mounting: Mounting,
        probe: Callable[[int], None] = lambda _: None,
    ) -> tuple[dict[str, State], int]:
        mounts = Mounts(self._store, self._registry, mounting, savings)
        return _bring(
            self._store,
            self._registry,
            sources,
            _Ways(savings, mounts, probe),
            self._jobs,
            self._progress,
        )

    def _manifest(self, *, patient: bool = True) -> None:
        with self._progress.timed("manifest"):
            manifests.put(
                self._registry, self._image.manifest_digest, self._image.manifest, patient=patient
            )


@dataclass(frozen=True, slots=True)
class _Ways:
    """What is tried before blobs are sent, and told of the bytes of those that must be."""

    savings: Savings
    mounts: Mounts
    probe: Callable[[int], None]


def bring(
    store: Store, registry: Registry, sources: Sequence[Source], jobs: int, progress: Progress
) -> int:
    """Bring blobs into a repository; gives the bytes sent.

    Raises:
        RegistryError: the registry refuses or cannot be reached.
        IntegrityError: a blob in the store is damaged or missing, and the registry lacks it.
    """
    savings = Savings(registry)
    ways = _Ways(savings, Mounts(store, registry, Mounting(), savings), lambda _: None)
    return _bring(store, registry, sources, ways, jobs, progress)[1]


def _bring(
    store: Store,
    registry: Registry,
    sources: Sequence[Source],
    ways: _Ways,
    jobs: int,
    progress: Progress,
) -> tuple[dict[str, State], int]:
    """As `bring`; gives as well how each blob got there.

    What the store does not hold itself is fetched only where it can be neither found nor mounted.
    """
    break_off = registry.transport.close
    with progress.timed("ask"):
        there = at_once(ways.savings.has, sources, QUESTIONS, break_off)
        lacking = [item for item, has in zip(sources, there, strict=True) if not has]
        mounted = at_once(ways.mounts.mount, lacking, QUESTIONS, break_off)
    taken = {item.digest for item, done in zip(lacking, mounted, strict=True) if done}
    # The largest first: a large one that begins last would be alone at the end.
    rest = sorted((i for i in lacking if i.digest not in taken), key=lambda item: -item.size)
    ways.probe(sum(item.size for item in rest))
    backfill.complete(store, (item.digest for item in rest), progress=progress, jobs=jobs)
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
            registry.transport.close,
        )
    return sum(sent)
