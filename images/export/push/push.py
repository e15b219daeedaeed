"""An image from the store into a registry: its blobs first, then its manifest, then its tag.

Specification: OCI Distribution Spec 1.1, "Pushing". What the registry has is not sent; what another
of its repositories has is mounted. A push may break off at any moment: the tag then is what it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from images.errors import IntegrityError, LoginError, RegistryError, UsageError
from images.export.push import history, zstd_probe
from images.export.push.reuse import Mounting, Savings
from images.export.push.transfer import Bringing, PushedBlob, State, sources_of
from images.http.retry import TransientError
from images.oci import reference
from images.oci.descriptor import DIGEST
from images.oci.image import Image
from images.oci.reference import Repository
from images.oci.referrer import Referrer
from images.oci.registry import manifests
from images.oci.registry import referrers as registry_referrers
from images.oci.registry.client import Registry
from images.oci.registry.manifests import Put
from images.oci.registry.referrers import Attached
from images.oci.registry.refusals import UnsupportedError
from images.oci.store.store import Store
from images.util import untrusted_json
from images.util.progress import Progress


@dataclass(frozen=True, slots=True)
class Wishes:
    """How an image is to be pushed.

    Attributes:
        referrers: documents about it, to be there before it has its name.
        attested: fail, before the image has its name, where they cannot be had there.
        mounting: which repositories of that registry may give blobs.
        never_move: fail where the tag names another image.
        jobs: uploads at a time.
    """

    referrers: Sequence[Referrer] = ()
    attested: bool = False
    mounting: Mounting = field(default_factory=Mounting)
    never_move: bool = False
    jobs: int = 4


PLAIN = Wishes()


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        target: the image's name in the store.
        repository: where it is now.
        tag: the tag that names it there.
        manifest_digest: as in the store, and as the registry confirmed.
        blobs: the layers, lowest first, then the config.
        bytes_sent: bodies of requests, with what had to be sent twice.
        before: the digest that the tag named before, None if none is known.
        attached: documents about the image that are there as well.
        notes: a line for each thing that was not as it should be, and did not stop the push.
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
        """What it can be pulled by, forever: `REGISTRY/REPOSITORY@sha256:…`."""
        return f"{self.repository}@{self.manifest_digest}"


def push(
    store: Store,
    image: Image,
    registry: Registry,
    tag: str,
    wishes: Wishes = PLAIN,
    *,
    progress: Progress,
) -> Pushed:
    """Push one image; the registry's answers confirm each step.

    Args:
        store: where the blobs are.
        image: the image.
        registry: the repository that it goes to.
        tag: the name that it gets there, last of all.
        wishes: how.
        progress: told of the bytes sent.

    Raises:
        UsageError: the tag is one that never moves, and names another image.
        RegistryError: the registry refuses or cannot be reached.
        IntegrityError: a blob in the store is damaged or missing, and the registry lacks it.
    """
    sources = sources_of(store, image)
    with progress.timed("ask"):
        now = _look(store, registry, tag, image, needed=wishes.never_move)
    states: dict[str, State] = dict.fromkeys(sources, "present")
    sent, notes = 0, list(now.notes)
    unchanged = now.before == image.manifest_digest
    if not unchanged:
        _check_moves(registry, tag, now.before, image, wishes)
        savings = Savings(registry, readable=now.readable)
        bringing = Bringing(store, image, registry, savings, wishes.mounting, wishes.jobs, progress)
        try:
            sent = bringing.all(sources, now.known, states)
        except UnsupportedError as error:
            raise _with_gzip(error, image) from None
        sent += 2 * len(image.manifest)
        notes += savings.notes
    with progress.timed("attest"):
        there = registry_referrers.attach(registry, store, wishes.referrers, strict=wishes.attested)
    notes += there.notes
    if not unchanged:
        with progress.timed("tag"):
            if wishes.never_move:
                _check_moves(registry, tag, registry.manifest_digest(tag), image, wishes)
            notes += _late(tag, manifests.put(registry, tag, image.manifest))
    history.note(store, registry.canonical, sources, image.manifest_digest)
    blobs = (PushedBlob(item.digest, item.size, states[item.digest]) for item in sources.values())
    return Pushed(
        image.ref,
        registry.repository,
        tag,
        image.manifest_digest,
        tuple(blobs),
        sent + there.sent,
        now.before,
        there.attached,
        tuple(notes),
    )


# -- what is there ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Now:
    """What is known of a repository before anything is sent.

    Attributes:
        before: what the tag names; None if nothing, or if that is not known.
        known: blobs of an image like the one that is pushed: they are there, as long as it is.
        readable: whether the login may read there.
        notes: for people.
    """

    before: str | None
    known: Collection[str] = frozenset()
    readable: bool = True
    notes: tuple[str, ...] = ()


def _look(store: Store, registry: Registry, tag: str, image: Image, *, needed: bool) -> _Now:
    """Ask what the tag names. To know it only saves work, unless it must not be moved."""
    try:
        before = registry.manifest_digest(tag)
    except LoginError as error:
        if needed or not registry.transport.answered:
            raise
        with suppress(TransientError):  # raises where the login is good for nothing
            registry.cancel(registry.start_upload()[0])
        words = f"what is there cannot be asked, so every blob is sent: {error.message}"
        return _Now(None, readable=False, notes=(words,))
    except RegistryError:
        if needed or not registry.transport.answered:
            raise
        before = None
    if before == image.manifest_digest:
        return _Now(before)
    like = before or history.last_image(store, registry.canonical)
    return _Now(before, _blobs_of(registry, like) if like else frozenset())


def _blobs_of(registry: Registry, digest: str) -> frozenset[str]:
    """The blobs of an image in the repository.

    To ask for each of them takes longer than to push what is new.
    """
    with suppress(RegistryError, IntegrityError, TransientError, ValueError, KeyError, TypeError):
        if DIGEST.fullmatch(digest) and (found := registry.manifest(digest)):
            head = untrusted_json.loads(found.content)
            return frozenset(item["digest"] for item in (*head["layers"], head["config"]))
    return frozenset()


def _check_moves(
    registry: Registry, tag: str, before: str | None, image: Image, wishes: Wishes
) -> None:
    if before in (None, image.manifest_digest):
        return
    reference.check_moves(registry.repository, tag, before)
    if wishes.never_move:
        raise UsageError(
            f"{registry.repository}:{tag}: names {before} already, and is not to be moved",
            remedy="push under another tag, or without --never-move",
        )


def _late(tag: str, done: Put) -> tuple[str, ...]:
    """The words for a tag that the registry took and does not show."""
    if done.shown in (None, done.digest):
        return ()
    return (
        f"{tag} was taken, and still names {done.shown}: the registry shows it late, or somebody "
        "else has pushed that tag",
    )


def _with_gzip(error: UnsupportedError, image: Image) -> RegistryError:
    if not (zstd_probe.has_zstd(image) or "zstd" in error.message):
        return error
    return RegistryError(
        error.message,
        remedy="a registry that takes no zstd layers takes gzip: "
        f"python build.py --target {image.ref} --compression gzip, then push again "
        "(other layers, so another digest)",
    )
