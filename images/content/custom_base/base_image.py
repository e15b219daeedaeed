"""An own base: an image that a target stands on instead of our Debian base.

Its layers are taken as they are. What it is, is read from its files
(`images.content.custom_base.facts`) and held against the target (`images.content.custom_base.fit`)
before anything else is fetched.

Specification: OCI Image Format 1.1, manifest.md, config.md, image-index.md.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from images.content.custom_base import facts as base_facts
from images.content.custom_base import file_tree, fit
from images.content.custom_base import source as base_source
from images.content.custom_base.facts import Facts
from images.content.custom_base.fit import Candidate
from images.content.custom_base.source import Keeper, Place
from images.errors import FetchError, IntegrityError, MatrixError, StoreError
from images.inputs.fetch import download_cache
from images.inputs.lock.artifact import Artifact
from images.inputs.matrix.base_reference import BaseReference
from images.oci.image import Layer, checked_digest
from images.oci.layer import decompress, writer
from images.oci.layer.writer import Blob
from images.util import atomic_file, limits, sha256, untrusted_files, untrusted_json
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.inputs.lock.cuda_lock import Toolkit
    from images.inputs.lock.target_lock import Lock
    from images.inputs.matrix.records import Target
    from images.oci.store.store import Store

_CONNECTIONS = 4
_DOCKERS = "application/vnd.docker.image.rootfs.diff.tar."
_LAYER_TYPES = {kind: kind for kind in writer.MEDIA_TYPES} | {
    # Docker's name for the same bytes: a manifest of OCI's names them as OCI does.
    f"{_DOCKERS}{compression}": writer.MEDIA_TYPE + compression
    for compression in writer.COMPRESSIONS
}


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An own base, without what is in its files.

    Attributes:
        reference: as matrix.yaml has it.
        manifest_digest: of the manifest for linux/amd64; the reference may be to an index.
        platform: of its config, e.g. `linux/amd64`.
        blobs: its layers, lowest first; bytes of their tars are not known yet (0).
        env: of its config.
        labels: of its config.
        history: of its config; as many entries that are not empty as it has layers.
        documents: its index, manifest and config as files of the cache.
    """

    reference: BaseReference
    manifest_digest: str
    platform: str
    blobs: tuple[Blob, ...]
    env: dict[str, str]
    labels: dict[str, str]
    history: tuple[dict[str, Any], ...]
    documents: tuple[Artifact, ...]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """All its files, as they are in the cache."""
        layers = [base_source.layer_artifact(blob.digest, blob.size) for blob in self.blobs]
        return self.documents + tuple(dict.fromkeys(layers))


@dataclass(frozen=True, slots=True)
class Ground:
    """An own base that is known whole.

    Attributes:
        image: what its documents say.
        facts: what is in its layers.
        layers: its layers, lowest first, with the bytes of their tars.
    """

    image: BaseImage
    facts: Facts
    layers: tuple[Layer, ...]


# -- documents -------------------------------------------------------------------------------------


def describe(reference: BaseReference, place: Place) -> BaseImage:
    """What a base's documents say; they are fetched if the cache lacks them.

    Raises:
        FetchError, RegistryError, IntegrityError, StoreError: they cannot be had or kept.
        MatrixError: it is not an image for linux/amd64 whose layers can be used.
    """
    with Keeper(reference, place) as keeper:
        try:
            return _described(reference, keeper)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{reference}: not an OCI or Docker image: {error!r}",
                remedy="name another image, by its digest, under `base:` in matrix.yaml",
            ) from error


def _described(reference: BaseReference, keeper: Keeper) -> BaseImage:
    digest, documents = reference.digest, []
    content = keeper.manifest(digest)
    documents.append(base_source.document_artifact("manifest", digest, content))
    head = untrusted_json.loads(content)
    if "manifests" in head:
        digest = _for_us(reference, head)
        content = keeper.manifest(digest)
        documents.append(base_source.document_artifact("manifest", digest, content))
        head = untrusted_json.loads(content)
    described = head["config"]
    size = _size(described, limits.DOCUMENT)
    raw = keeper.config(checked_digest(described["digest"]), size)
    documents.append(base_source.document_artifact("config", described["digest"], raw))
    body = untrusted_json.loads(raw)
    settings = body.get("config") or {}
    blobs = tuple(
        Blob(checked_digest(item["digest"]), checked_digest(diff_id), _size(item), 0, kind)
        for item, diff_id, kind in zip(
            head["layers"], body["rootfs"]["diff_ids"], _kinds(reference, head), strict=True
        )
    )
    return BaseImage(
        reference,
        digest,
        f"{body['os']}/{body['architecture']}",
        blobs,
        dict(line.partition("=")[::2] for line in settings.get("Env") or []),
        {str(name): str(value) for name, value in (settings.get("Labels") or {}).items()},
        _history(body.get("history") or [], len(blobs)),
        tuple(documents),
    )


def _size(descriptor: Mapping[str, Any], most: int = limits.LAYER_BYTES) -> int:
    """The bytes that a descriptor tells of; so much is fetched before its hash can be held to it.

    Raises:
        ValueError: it is no size, or more than a limit.
    """
    size = descriptor["size"]
    if type(size) is not int or not 0 <= size <= most:
        raise ValueError(f"{size!r} is not the size of a blob; {most} are the limit")
    return size


def _for_us(reference: BaseReference, index: Mapping[str, Any]) -> str:
    """The digest of the manifest for linux/amd64 in an index."""
    platforms: dict[str, str] = {}
    for item in index["manifests"]:
        platform = item.get("platform") or {}
        name = f"{platform.get('os')}/{platform.get('architecture')}"
        platforms.setdefault(name, checked_digest(item["digest"]))
    if "linux/amd64" not in platforms:
        raise _refusal(reference, [f"it is for {', '.join(platforms)}, not for linux/amd64"])
    return platforms["linux/amd64"]


def _kinds(reference: BaseReference, head: Mapping[str, Any]) -> list[str]:
    """The layers' media types, in OCI's words."""
    unusable = {item["mediaType"] for item in head["layers"]} - _LAYER_TYPES.keys()
    if unusable:
        reasons = [
            f"it has layers of the kind {kind}: make them gzip or zstd, e.g. by "
            "skopeo copy --dest-compress --dest-compress-format zstd"
            for kind in sorted(unusable)
        ]
        raise _refusal(reference, reasons)
    return [_LAYER_TYPES[item["mediaType"]] for item in head["layers"]]


def _history(told: list[dict[str, Any]], layers: int) -> tuple[dict[str, Any], ...]:
    """The history; one entry a layer where it does not tell of all of them."""
    if sum(not item.get("empty_layer") for item in told) == layers:
        return tuple(told)
    return tuple({"created_by": "base image"} for _ in range(layers))


# -- layers ----------------------------------------------------------------------------------------


def bring(image: BaseImage, place: Place, progress: Progress, *, verify: bool = False) -> None:
    """Fetch the layers that are neither in the cache nor at hand elsewhere.

    Args:
        image: the base.
        place: where.
        progress: told of the stage.
        verify: hash again what is in the cache; what is damaged is fetched anew.

    Raises:
        FetchError, RegistryError, IntegrityError, StoreError: a layer cannot be had or kept.
    """
    if verify:
        for artifact in image.artifacts:
            with suppress(FetchError):
                _mended(artifact, place.cache)
    blobs = [blob for blob in dict.fromkeys(image.blobs) if not _at_hand(blob, place)]
    if not blobs:
        return
    with (
        progress.stage("base", sum(blob.size for blob in blobs)) as meter,
        ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="base") as pool,
        # Ends before the pool does: that breaks off what still runs when something failed.
        Keeper(image.reference, place) as keeper,
    ):
        for blob in blobs[:1]:  # opens the connection and logs in, once
            keeper.layer(blob.digest, blob.size, meter.advance)
        running = [
            pool.submit(keeper.layer, blob.digest, blob.size, meter.advance) for blob in blobs[1:]
        ]
        for future in running:
            future.result()


def _mended(artifact: Artifact, cache: Path) -> None:
    try:
        download_cache.checked(artifact, cache)
    except IntegrityError:
        download_cache.cached(artifact, cache).unlink()


def _at_hand(blob: Blob, place: Place) -> bool:
    artifact = base_source.layer_artifact(blob.digest, blob.size)
    return download_cache.is_cached(artifact, place.cache) or place.has(blob.digest, blob.size)


def survey(image: BaseImage, cache: Path, store: Store | None, progress: Progress) -> Ground:
    """What is in a base's layers: read once, then kept by the base's digest.

    It decides about layers, so a build relies on its store alone; what is kept in the cache says
    which files are to be fetched.

    Args:
        image: the base; all its layers are in the cache or in the store.
        cache: the download cache.
        store: the store, if there is one.
        progress: told of the stage.

    Raises:
        IntegrityError: a layer's tar is not the one of the config, or none at all.
        StoreError: the cache cannot be written.
    """
    digest = image.manifest_digest.removeprefix("sha256:")
    kept = cache / digest / f"facts-{base_facts.FORMAT}.json"
    note = f"base-{digest}-{base_facts.FORMAT}.json"
    found = _read_facts(
        lambda: store.noted(note) if store else untrusted_files.whole(kept, limits.LIST)
    )
    if found is None:
        with progress.stage("read base", sum(blob.size for blob in image.blobs)) as meter:
            tree = file_tree.Tree(base_facts.wanted)
            sizes = []
            for blob in image.blobs:
                sizes.append(_add(tree, blob, _where(blob, cache, store)))
                name = f"{image.reference}: its layers"
                limits.check_count(name, sum(sizes), limits.LAYER_BYTES, "bytes")
                meter.advance(blob.size)
        facts = base_facts.read(tree, image.env.get("PATH"))
        document = json.dumps({"facts": asdict(facts), "sizes": sizes})
        if store:
            store.note(note, document.encode())
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            atomic_file.write_text(kept, document)
        except OSError as error:
            raise StoreError(f"{kept}: cannot be written: {error}") from error
    else:
        facts, sizes = found
    layers = tuple(
        Layer("", Blob(blob.digest, blob.diff_id, blob.size, size, blob.media_type))
        for blob, size in zip(image.blobs, sizes, strict=True)
    )
    return Ground(image, facts, layers)


def _read_facts(read: Callable[[], bytes | None]) -> tuple[Facts, list[int]] | None:
    try:
        document = untrusted_json.loads(read() or b"")
        told: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document["facts"].items()
        }
        return Facts(**told), [int(size) for size in document["sizes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _where(blob: Blob, cache: Path, store: Store | None) -> Path:
    kept = download_cache.cached(base_source.layer_artifact(blob.digest, blob.size), cache)
    return kept if store is None or kept.exists() else store.blob_path(blob.digest)


def _add(tree: file_tree.Tree, blob: Blob, path: Path) -> int:
    """Put a layer on the tree; gives the bytes of its tar, whose hash is held against the config.

    The hash of the blob itself was checked when it arrived.
    """
    digest, size = hashlib.sha256(), 0

    def hashed() -> Iterator[bytes]:
        nonlocal size
        for piece in decompress.tar(path, blob.size, blob.media_type):
            digest.update(piece)
            size += len(piece)
            yield piece

    tree.add_layer(hashed())
    if f"sha256:{digest.hexdigest()}" != blob.diff_id:
        raise IntegrityError(
            f"layer {blob.digest} of the base: its tar is not the {blob.diff_id} of its config",
            remedy=f"rm {path}  # if it was damaged here; else the image itself is broken",
        )
    return size


def put_layers(ground: Ground, cache: Path, store: Store) -> list[bool]:
    """Put a base's layers into the store; gives for each whether it was there already.

    Raises:
        StoreError: the store cannot be written.
        IntegrityError: the cache's file is damaged.
    """
    known = []
    for item in ground.layers:
        blob = item.blob
        there = store.has(blob.digest, blob.size)
        if not there:
            artifact = base_source.layer_artifact(blob.digest, blob.size)
            with store.new_file() as (out, commit):
                with download_cache.checked(artifact, cache).open("rb") as source:
                    shutil.copyfileobj(source, out, 1 << 20)
                commit(blob.digest)
        # By this record the bytes of its tar are known to whoever loads the image.
        key = sha256.of_json({"base layer": blob.digest})
        if store.known(key) != blob:
            store.remember(key, blob)
        known.append(there)
    return known


# -- fit -------------------------------------------------------------------------------------------


def check_platform(image: BaseImage) -> None:
    """Refuse a base for another platform before its layers are fetched.

    Raises:
        MatrixError: it is for another platform.
    """
    if wrong := fit.wrong_platform(image.platform):
        raise _refusal(image.reference, [wrong])


def check(target: Target, ground: Ground, lock: Lock, tools: Toolkit, own: int) -> None:
    """Refuse a base that cannot carry a target.

    Args:
        target: the target.
        ground: the base.
        lock: the target's lock.
        tools: our compiler, for a base without one.
        own: layers that the target puts on the base.

    Raises:
        MatrixError: it cannot; every reason is named.
    """
    image = ground.image
    candidate = Candidate(image.platform, len(image.blobs))
    reasons = fit.unfit(target, candidate, ground.facts, lock, own)
    reasons += fit.slice_unfit(tools, ground.facts)
    if reasons:
        raise _refusal(image.reference, reasons, target.id, ground.facts.system)


def _refusal(
    reference: BaseReference, reasons: list[str], target: str = "", system: str = ""
) -> MatrixError:
    lines = "".join(f"\n  {reason}" for reason in reasons)
    called = f" ({system})" if system else ""
    whose = f" of {target}" if target else ""
    return MatrixError(
        f"{reference}{called} cannot be the base{whose}:{lines}",
        remedy="put into the base what it lacks, or name another under `base:` in matrix.yaml",
    )
