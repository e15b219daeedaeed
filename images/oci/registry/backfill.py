"""Download of a store's remote layers: those that it has a record of, but not the bytes.

Whatever needs the bytes of an image (Docker, a bundle, tests, another registry, skopeo and podman
on the layout) fetches them here first. Their key is not recorded as that of a layer that the store
has made: only making it proves what it is made from, so a build without the cache makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from images.errors import IntegrityError, RegistryError
from images.oci.layer import decompress
from images.oci.registry import download
from images.oci.registry.client import Registry
from images.oci.registry.concurrency import TRANSFERS
from images.oci.registry.refusals import NotFoundError
from images.oci.store.remote_layers import Location, RemoteLayer
from images.oci.store.store import Store
from images.util.parallel import map_all
from images.util.progress import Meter, Progress

_MAKE_IT = "python build.py --target ID  # without --cache-from, it makes what the store lacks"


def fetch(
    store: Store, digests: Iterable[str], *, progress: Progress, jobs: int = TRANSFERS
) -> list[RemoteLayer]:
    """Download the remote ones among those blobs, and return them.

    Args:
        store: the store.
        digests: of layers; those in the store and those without a record are left alone.
        progress: shows the bytes received.
        jobs: parallel downloads.

    Raises:
        RegistryError: a registry no longer has the blob, or cannot be reached.
        IntegrityError: it sent other bytes, or a layer whose tar is not the one of the record.
        StoreError: the disk is full.
    """
    elsewhere = store.remote_layers.missing_here()
    wanted = [elsewhere[digest] for digest in dict.fromkeys(digests) if digest in elsewhere]
    if not wanted:
        return []
    # Largest first, so that no large blob runs alone at the end.
    wanted.sort(key=lambda remote: -remote.blob.size)
    total = sum(remote.blob.size for remote in wanted)
    with ExitStack() as stack:
        stack.enter_context(store.building())
        connected = {
            location: stack.enter_context(_connected(location))
            for location in dict.fromkeys(remote.location for remote in wanted)
        }
        meter = stack.enter_context(progress.stage("pull", total))

        def cancel() -> None:
            for registry in connected.values():
                registry.transport.close()

        map_all(
            lambda remote: _fetch(store, remote, connected[remote.location], meter),
            wanted,
            jobs,
            cancel,
        )
    return wanted


def _connected(location: Location) -> Registry:
    return Registry(location.repository, plain_http=location.plain_http, actions="pull")


def _fetch(store: Store, remote: RemoteLayer, registry: Registry, meter: Meter) -> None:
    blob = remote.blob
    with store.layer_keys.making(remote.key):
        if store.blobs.has(blob.digest, blob.size):  # another process has just fetched or made it
            meter.advance(blob.size)
            return
        try:
            with store.blobs.new_file() as (out, commit):
                download.blob(registry, blob.digest, blob.size, out, meter.advance)
                with meter.busy(f"checking {blob.digest[:19]}"):
                    out.flush()
                    _check_tar(Path(out.name), remote, registry.transport.check_stopped)
                with meter.busy(f"writing {blob.digest[:19]} to the disk"):
                    commit(blob.digest)
        except NotFoundError as error:
            raise RegistryError(error.message, remedy=_MAKE_IT) from None
        except IntegrityError as error:
            raise IntegrityError(error.message, remedy=_MAKE_IT) from None


def _check_tar(path: Path, remote: RemoteLayer, check_stopped: Callable[[], None]) -> None:
    """Check a layer's tar against the cache's record, which images were made with.

    Args:
        path: of the blob.
        remote: the layer as recorded.
        check_stopped: raises an exception after cancellation; a large tar takes a minute.

    Raises:
        IntegrityError: it is another tar.
    """
    blob, found, left = remote.blob, hashlib.sha256(), remote.blob.unpacked
    for piece in decompress.tar(path, blob):
        check_stopped()
        found.update(piece)
        left -= len(piece)
        if left < 0:
            break
    if left or f"sha256:{found.hexdigest()}" != blob.diff_id:
        raise IntegrityError(
            f"{remote.location}: the layer {blob.digest} does not contain the tar of its record "
            f"there ({blob.diff_id}, {blob.unpacked} bytes): every image that was made with it is "
            "broken, and so is the record"
        )
