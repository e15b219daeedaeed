"""Transfer of blobs from a store to a repository, and of an image's manifest under its digest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

from images.export.push import zstd_probe
from images.export.push.reuse import NO_MOUNTS, BlobReuse, Mounter, MountSources
from images.oci.image import Image
from images.oci.registry import backfill, manifests, upload
from images.oci.registry.client import Registry
from images.oci.registry.concurrency import REQUESTS
from images.oci.registry.refusals import BlobUnknownError
from images.oci.registry.upload import BodyLimit, StoredBlob
from images.oci.store.store import Store
from images.util.parallel import map_all
from images.util.progress import Progress

State = Literal["sent", "mounted", "present"]


@dataclass(frozen=True, slots=True)
class PushedBlob:
    """A blob of the image, and how it got into the repository."""

    digest: str
    size: int
    state: State


def blobs_of(store: Store, image: Image) -> dict[str, StoredBlob]:
    """Return the blobs of an image by digest: the layers, lowest first, then the config."""
    sizes = {layer.blob.digest: layer.blob.size for layer in image.layers}
    sizes[image.config_digest] = len(image.config)
    return {
        digest: StoredBlob(store.blobs.path(digest), digest, size) for digest, size in sizes.items()
    }


@dataclass(frozen=True, slots=True)
class Route:
    """Where blobs go, and how.

    Attributes:
        store: contains them.
        registry: the repository.
        jobs: parallel uploads.
        progress: shows the bytes sent.
    """

    store: Store
    registry: Registry
    jobs: int
    progress: Progress


class ImageTransfer:
    """The transfer of an image's blobs, and of its manifest under its digest.

    Under its digest first: an image that the registry would alter never gets the tag.

    Args:
        route: where it goes.
        image: the image.
        reuse: of blobs that are in the registry.
        sources: the repositories of that registry that blobs may be mounted from.

    Attributes:
        blobs: the layers, lowest first, then the config, by digest.
        sent: bytes of blobs sent so far.
    """

    def __init__(self, route: Route, image: Image, reuse: BlobReuse, sources: MountSources) -> None:
        self._route, self._image = route, image
        self._reuse, self._sources = reuse, sources
        self.blobs = blobs_of(route.store, image)
        self.sent = 0
        self._states: dict[str, State] = dict.fromkeys(self.blobs, "present")

    @property
    def pushed(self) -> tuple[PushedBlob, ...]:
        """How each blob got there so far."""
        return tuple(
            PushedBlob(digest, blob.size, self._states[digest])
            for digest, blob in self.blobs.items()
        )

    def run(self, known: Collection[str]) -> None:
        """Transfer what is not known to be there.

        Args:
            known: digests of blobs whose existence is not even checked.

        Raises:
            RegistryError: the registry refuses or cannot be reached.
            IntegrityError: a blob in the store is damaged or missing, and the registry lacks it.
        """
        store, registry = self._route.store, self._route.registry
        rest = [blob for digest, blob in self.blobs.items() if digest not in known]
        probe = partial(zstd_probe.check, store, self._image, registry, known)
        self._transfer(rest, self._reuse, self._sources, probe)
        with suppress(BlobUnknownError):
            self._push_manifest(patient=False)
            return
        # The image that served as a hint is missing blobs, or a mount was without effect.
        self._transfer(self._unsent(), self._reuse, NO_MOUNTS)
        try:
            self._push_manifest()
            return
        except BlobUnknownError as error:
            unsent = self._unsent()
            lacking = [blob for blob in unsent if blob.digest in error.refusal.digests] or unsent
            if not lacking:
                raise
        # The registry reports of one and the same blob that it is there and that it is unknown.
        self._transfer(lacking, BlobReuse(registry, readable=False), NO_MOUNTS)
        self._push_manifest()

    def _unsent(self) -> list[StoredBlob]:
        return [blob for digest, blob in self.blobs.items() if self._states[digest] != "sent"]

    def _transfer(
        self,
        blobs: Sequence[StoredBlob],
        reuse: BlobReuse,
        sources: MountSources,
        probe: Callable[[int], None] = lambda _: None,
    ) -> None:
        mounter = Mounter(self._route.store, self._route.registry, sources, reuse)
        states, sent = _transfer(self._route, blobs, reuse, mounter, probe)
        self._states |= states
        self.sent += sent

    def _push_manifest(self, *, patient: bool = True) -> None:
        image, registry = self._image, self._route.registry
        with self._route.progress.timed("manifest"):
            manifests.put(registry, image.manifest_digest, image.manifest, patient=patient)


def transfer_blobs(route: Route, blobs: Sequence[StoredBlob]) -> int:
    """Transfer blobs to a repository; return the bytes sent.

    Raises:
        RegistryError: the registry refuses or cannot be reached.
        IntegrityError: a blob in the store is damaged or missing, and the registry lacks it.
    """
    reuse = BlobReuse(route.registry)
    mounter = Mounter(route.store, route.registry, MountSources(), reuse)
    return _transfer(route, blobs, reuse, mounter, lambda _: None)[1]


def _transfer(
    route: Route,
    blobs: Sequence[StoredBlob],
    reuse: BlobReuse,
    mounter: Mounter,
    probe: Callable[[int], None],
) -> tuple[dict[str, State], int]:
    """Transfer blobs; return how each got there, and the bytes sent.

    Remote layers of the store are downloaded only where they can be neither found nor mounted.

    Args:
        route: where they go.
        blobs: the blobs.
        reuse: finds those that are there.
        mounter: mounts others.
        probe: called with the bytes that must be sent, before they are.
    """
    cancel = route.registry.transport.close
    with route.progress.timed("ask"):
        there = map_all(reuse.has, blobs, REQUESTS, cancel)
        lacking = [blob for blob, has in zip(blobs, there, strict=True) if not has]
        mounts = map_all(mounter.mount, lacking, REQUESTS, cancel)
    mounted = {blob.digest for blob, done in zip(lacking, mounts, strict=True) if done}
    # Largest first, so that no large blob runs alone at the end.
    rest = sorted((b for b in lacking if b.digest not in mounted), key=lambda blob: -blob.size)
    probe(sum(blob.size for blob in rest))
    digests = [blob.digest for blob in rest]
    backfill.fetch(route.store, digests, progress=route.progress, jobs=route.jobs)
    sent = _send(route, rest) if rest else 0
    states: dict[str, State] = {blob.digest: "present" for blob in blobs}
    states |= dict.fromkeys(mounted, "mounted")
    states |= dict.fromkeys(digests, "sent")
    return states, sent


def _send(route: Route, blobs: Sequence[StoredBlob]) -> int:
    registry, limit = route.registry, BodyLimit()
    with route.progress.stage("push", sum(blob.size for blob in blobs)) as meter:
        sent = map_all(
            lambda blob: upload.send(registry, blob, meter.advance, limit),
            blobs,
            route.jobs,
            registry.transport.close,
        )
    return sum(sent)
