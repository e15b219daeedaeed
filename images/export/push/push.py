"""Push of an image from the store to a registry: blobs first, then the manifest, then the tag.

Specification: OCI Distribution Spec 1.1, "Pushing". A blob that the registry has is not sent; one
that another of its repositories has is mounted. A push may be interrupted at any moment: the tag
then is what it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from images.errors import IntegrityError, LoginError, RegistryError, UsageError
from images.export.push import history, zstd_probe
from images.export.push.reuse import BlobReuse, MountSources
from images.export.push.transfer import ImageTransfer, PushedBlob, Route
from images.http.retry import TransientError
from images.oci import reference
from images.oci.descriptor import DIGEST
from images.oci.image import Image
from images.oci.reference import Repository
from images.oci.referrer import Referrer
from images.oci.registry import manifests, referrers
from images.oci.registry.client import Registry
from images.oci.registry.concurrency import TRANSFERS
from images.oci.registry.manifests import PushedManifest
from images.oci.registry.referrers import Attached
from images.oci.registry.refusals import UnsupportedError
from images.oci.registry.upload_session import UploadSession
from images.oci.store.store import Store
from images.util import untrusted_json
from images.util.progress import Progress


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Options of a push.

    Attributes:
        referrers: documents about the image, pushed before its tag.
        attested: fail, before the tag is set, unless they are there and listed.
        mount_sources: the repositories of that registry that blobs may be mounted from.
        never_move: fail if the tag names another image.
        jobs: parallel uploads.
    """

    referrers: Sequence[Referrer] = ()
    attested: bool = False
    mount_sources: MountSources = field(default_factory=MountSources)
    never_move: bool = False
    jobs: int = TRANSFERS


DEFAULTS = PushOptions()


@dataclass(frozen=True, slots=True)
class Pushed:
    """The result of a push.

    Attributes:
        target: the image's name in the store.
        repository: where it is now.
        tag: its tag there.
        manifest_digest: as in the store, and as the registry confirmed.
        blobs: the layers, lowest first, then the config.
        bytes_sent: bytes of request bodies, those sent twice included.
        before: the digest that the tag named before, None if none is known.
        attached: documents about the image that are there as well.
        notes: a line for each problem that did not stop the push.
    """

    target: str
    repository: Repository
    tag: str
    manifest_digest: str
    blobs: tuple[PushedBlob, ...]
    bytes_sent: int
    before: str | None = None
    attached: tuple[Attached, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether the tag named this very image before."""
        return self.before == self.manifest_digest

    @property
    def reference(self) -> str:
        """Immutable reference: `REGISTRY/REPOSITORY@sha256:…`."""
        return f"{self.repository}@{self.manifest_digest}"


def push(
    store: Store,
    image: Image,
    registry: Registry,
    tag: str,
    options: PushOptions = DEFAULTS,
    *,
    progress: Progress,
) -> Pushed:
    """Push one image; the registry's responses confirm each step.

    Args:
        store: contains the blobs.
        image: the image.
        registry: the repository that it goes to.
        tag: its tag there, set last of all.
        options: options of the push.
        progress: shows the bytes sent.

    Raises:
        UsageError: the tag must not be moved, and names another image.
        RegistryError: the registry refuses or cannot be reached.
        IntegrityError: a blob in the store is damaged or missing, and the registry lacks it.
    """
    with progress.timed("ask"):
        now = _query(store, registry, tag, image, needed=options.never_move)
    notes = list(now.notes)
    unchanged = now.before == image.manifest_digest
    reuse = BlobReuse(registry, readable=now.readable)
    route = Route(store, registry, options.jobs, progress)
    transfer = ImageTransfer(route, image, reuse, options.mount_sources)
    if not unchanged:
        _check_moves(registry, tag, now.before, image, options)
        try:
            transfer.run(now.known)
        except UnsupportedError as error:
            raise _suggesting_gzip(error, image) from None
        notes += reuse.notes
    with progress.timed("attest"):
        attached = referrers.attach(registry, store, options.referrers, strict=options.attested)
    notes += attached.notes
    if not unchanged:
        with progress.timed("tag"):
            if options.never_move:
                _check_moves(registry, tag, registry.manifest_digest(tag), image, options)
            notes += _not_shown(tag, manifests.put(registry, tag, image.manifest))
    history.note(store, registry.canonical, transfer.blobs, image.manifest_digest)
    manifests_sent = 0 if unchanged else 2 * len(image.manifest)  # under its digest and its tag
    return Pushed(
        image.ref,
        registry.repository,
        tag,
        image.manifest_digest,
        transfer.pushed,
        transfer.sent + manifests_sent + attached.sent,
        now.before,
        attached.attached,
        tuple(notes),
    )


# -- the repository before the push ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Contents:
    """What is known about a repository before anything is sent.

    Attributes:
        before: the digest that the tag names; None if none, or if that is not known.
        known: blobs of an image like the one that is pushed: they are there, as long as it is.
        readable: whether the login may read there.
        notes: for the user.
    """

    before: str | None
    known: Collection[str] = frozenset()
    readable: bool = True
    notes: tuple[str, ...] = ()


def _query(store: Store, registry: Registry, tag: str, image: Image, *, needed: bool) -> _Contents:
    """Ask which image the tag names. The answer only saves work, unless the tag must not move."""
    try:
        before = registry.manifest_digest(tag)
    except LoginError as error:
        if needed or not registry.transport.answered:
            raise
        with suppress(TransientError):  # raises LoginError where the login may not push either
            UploadSession.begin(registry).cancel()
        note = f"the repository cannot be read, so every blob is sent: {error.message}"
        return _Contents(None, readable=False, notes=(note,))
    except RegistryError:
        if needed or not registry.transport.answered:
            raise
        before = None
    if before == image.manifest_digest:
        return _Contents(before)
    like = before or history.last_image(store, registry.canonical)
    return _Contents(before, _blobs_of(registry, like) if like else frozenset())


def _blobs_of(registry: Registry, digest: str) -> frozenset[str]:
    """Return the blobs of an image in the repository.

    Asking for each of them would take longer than pushing the new ones.
    """
    with suppress(RegistryError, IntegrityError, TransientError, ValueError, KeyError, TypeError):
        if DIGEST.fullmatch(digest) and (found := registry.manifest(digest)):
            manifest = untrusted_json.loads(found.content)
            return frozenset(item["digest"] for item in (*manifest["layers"], manifest["config"]))
    return frozenset()


def _check_moves(
    registry: Registry, tag: str, before: str | None, image: Image, options: PushOptions
) -> None:
    if before in (None, image.manifest_digest):
        return
    reference.check_moves(registry.repository, tag, before)
    if options.never_move:
        raise UsageError(
            f"{registry.repository}:{tag}: names {before} already, and must not be moved",
            remedy="push under another tag, or without --never-move",
        )


def _not_shown(tag: str, pushed: PushedManifest) -> tuple[str, ...]:
    """Return a note about a tag that the registry accepted and does not show."""
    if pushed.shown in (None, pushed.digest):
        return ()
    return (
        f"{tag} was accepted, and still names {pushed.shown}: the registry shows it late, or "
        "somebody else has pushed that tag",
    )


def _suggesting_gzip(error: UnsupportedError, image: Image) -> UnsupportedError:
    if not zstd_probe.has_zstd(image):
        return error
    return error.reworded(
        remedy="a registry that accepts no zstd layers accepts gzip: "
        f"python build.py --target {image.ref} --compression gzip, then push again "
        "(other layers, so another digest)",
    )
