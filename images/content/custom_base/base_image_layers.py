"""The layers of a custom base: fetched, surveyed, and put into the store as they are."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from images import format_numbers
from images.content.custom_base import facts as base_facts
from images.content.custom_base import file_tree
from images.content.custom_base import source as base_source
from images.content.custom_base.facts import Facts
from images.content.custom_base.source import CachedImageSource
from images.errors import FetchError, IntegrityError, StoreError
from images.inputs.build_options import FetchOptions
from images.inputs.fetch import download_cache
from images.inputs.lock.artifact import Artifact
from images.oci.descriptor import Blob
from images.oci.image import Layer
from images.oci.layer import decompress
from images.util import atomic_file, limits, sha256, untrusted_files, untrusted_json
from images.util.progress import Progress

if TYPE_CHECKING:
    from images.content.custom_base.base_image import BaseImage
    from images.oci.store.store import Store

_CONNECTIONS = 4


class Survey(NamedTuple):
    """The outcome of reading a base's layers.

    Attributes:
        facts: what is in them.
        layers: the layers, lowest first, with the bytes of their tars.
    """

    facts: Facts
    layers: tuple[Layer, ...]


def fetch(
    image: BaseImage,
    options: FetchOptions,
    store: Store | None,
    progress: Progress,
    *,
    verify: bool = False,
) -> None:
    """Fetch the layers that are neither in the cache nor in the store.

    Args:
        image: the base.
        options: of the fetch.
        store: the store, if there is one.
        progress: reports the stage.
        verify: hash again what is in the cache; what is damaged is fetched again.

    Raises:
        FetchError, RegistryError, IntegrityError, StoreError: a layer is unavailable or cannot be
            stored.
    """
    if verify:
        for artifact in image.artifacts:
            with suppress(FetchError):
                _drop_damaged(artifact, options.cache)
    blobs = [
        blob for blob in dict.fromkeys(image.blobs) if not _is_here(blob, options.cache, store)
    ]
    if not blobs:
        return
    with (
        progress.stage("base", sum(blob.size for blob in blobs)) as meter,
        ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="base") as pool,
        # Closed before the pool: that cancels what still runs when something failed.
        CachedImageSource(image.reference, options) as source,
    ):
        for blob in blobs[:1]:  # opens the connection and logs in, once
            source.layer(blob.digest, blob.size, meter.advance)
        running = [
            pool.submit(source.layer, blob.digest, blob.size, meter.advance) for blob in blobs[1:]
        ]
        for future in running:
            future.result()


def _drop_damaged(artifact: Artifact, cache: Path) -> None:
    try:
        download_cache.checked(artifact, cache)
    except IntegrityError:
        download_cache.cached(artifact, cache).unlink()


def _is_here(blob: Blob, cache: Path, store: Store | None) -> bool:
    artifact = base_source.layer_artifact(blob.digest, blob.size)
    if download_cache.is_cached(artifact, cache):
        return True
    return store is not None and store.blobs.has(blob.digest, blob.size)


def survey(image: BaseImage, cache: Path, store: Store | None, progress: Progress) -> Survey:
    """Return what is in a base's layers: read once, then kept by the base's digest.

    It decides about layers, so a build relies on its store alone; what is kept in the cache decides
    which files are fetched.

    Args:
        image: the base; all its layers are in the cache or in the store.
        cache: the download cache.
        store: the store, if there is one.
        progress: reports the stage.

    Raises:
        IntegrityError: a layer's tar is not the one of the config, or not a tar.
        StoreError: the cache cannot be written.
    """
    digest = image.manifest_digest.removeprefix("sha256:")
    kept = cache / digest / f"facts-{format_numbers.CUSTOM_BASE_FACTS}.json"
    note = f"base-{digest}-{format_numbers.CUSTOM_BASE_FACTS}.json"
    found = _read_facts(
        lambda: store.files.read(note) if store else untrusted_files.whole(kept, limits.LIST)
    )
    if found is None:
        found = _read_layers(image, cache, store, progress)
        document = json.dumps({"facts": asdict(found[0]), "sizes": found[1]})
        if store:
            store.files.write(note, document.encode())
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            atomic_file.write_text(kept, document)
        except OSError as error:
            raise StoreError(f"{kept}: cannot be written: {error}") from error
    facts, sizes = found
    layers = tuple(
        Layer("", Blob(blob.digest, blob.diff_id, blob.size, size, blob.media_type))
        for blob, size in zip(image.blobs, sizes, strict=True)
    )
    return Survey(facts, layers)


def _read_layers(
    image: BaseImage, cache: Path, store: Store | None, progress: Progress
) -> tuple[Facts, list[int]]:
    """Read all layers; returns what is in them and the bytes of their tars."""
    tree = file_tree.Tree(base_facts.wanted)
    sizes: list[int] = []
    with progress.stage("read base", sum(blob.size for blob in image.blobs)) as meter:
        for blob in image.blobs:
            sizes.append(_add(tree, blob, _path_of(blob, cache, store)))
            limits.check_count(
                f"{image.reference}: its layers", sum(sizes), limits.LAYER_BYTES, "bytes"
            )
            meter.advance(blob.size)
    return base_facts.read(tree, image.env.get("PATH")), sizes


def _read_facts(read: Callable[[], bytes | None]) -> tuple[Facts, list[int]] | None:
    try:
        document = untrusted_json.loads(read() or b"")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document["facts"].items()
        }
        return Facts(**values), [int(size) for size in document["sizes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _path_of(blob: Blob, cache: Path, store: Store | None) -> Path:
    kept = download_cache.cached(base_source.layer_artifact(blob.digest, blob.size), cache)
    return kept if store is None or kept.exists() else store.blobs.path(blob.digest)


def _add(tree: file_tree.Tree, blob: Blob, path: Path) -> int:
    """Add a layer to the tree; returns the bytes of its tar, whose hash must be the config's.

    The hash of the blob itself was checked when it arrived.
    """
    digest, size = hashlib.sha256(), 0

    def hashed() -> Iterator[bytes]:
        nonlocal size
        for piece in decompress.tar(path, blob):
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


def put(layers: Sequence[Layer], cache: Path, store: Store) -> list[bool]:
    """Put a base's layers into the store; returns for each whether it was there already.

    Raises:
        StoreError: the store cannot be written.
        IntegrityError: the cache's file is damaged.
    """
    return [_put(layer.blob, cache, store) for layer in layers]


def _put(blob: Blob, cache: Path, store: Store) -> bool:
    there = store.blobs.has(blob.digest, blob.size)
    if not there:
        artifact = base_source.layer_artifact(blob.digest, blob.size)
        with store.blobs.new_file() as (out, commit):
            with download_cache.checked(artifact, cache).open("rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
            commit(blob.digest)
    # This record has the size of its tar, which loading the image needs.
    key = sha256.of_json({"base layer": blob.digest})
    if store.layer_keys.known(key) != blob:
        store.layer_keys.remember(key, blob)
    return there
