"""Brings layers into a store that it knows and does not hold, each one checked.

What needs the bytes of an image (Docker, a bundle, tests, another registry, skopeo and podman on
the layout) asks for them here first. Their key is not noted as that of a layer that the store has
made: only making it proves what it is made from, so a build without the cache makes it.
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
from images.oci.registry.refusals import NotFoundError
from images.oci.store.remote_layers import Place, Remote
from images.oci.store.store import Store
from images.util.parallel import at_once
from images.util.progress import Meter, Progress

_MAKE_IT = "python build.py --target ID  # without --cache-from, it makes what the store lacks"

JOBS = 4
"""Blobs that come at a time: enough to fill a line, few enough for one disk."""


def complete(
    store: Store, digests: Iterable[str], *, progress: Progress, jobs: int = JOBS
) -> list[Remote]:
    """Fetch those blobs that lie elsewhere; gives what was fetched.

    Args:
        store: where they go.
        digests: of layers; what the store holds is left alone, and so is what nobody has.
        progress: told of the bytes that arrive.
        jobs: blobs at a time.

    Raises:
        RegistryError: a registry has the blob no more, or cannot be reached.
        IntegrityError: it gave other bytes, or a layer whose tar is not the one of the record.
        StoreError: the disk is full.
    """
    elsewhere = store.remotes()
    wanted = [elsewhere[digest] for digest in dict.fromkeys(digests) if digest in elsewhere]
    if not wanted:
        return []
    # The largest first: a large one that begins last would be alone at the end.
    wanted.sort(key=lambda remote: -remote.blob.size)
    total = sum(remote.blob.size for remote in wanted)
    with ExitStack() as stack:
        stack.enter_context(store.building())
        connected = {
            place: stack.enter_context(_connected(place))
            for place in dict.fromkeys(remote.place for remote in wanted)
        }
        meter = stack.enter_context(progress.stage("pull", total))

        def break_off() -> None:
            for registry in connected.values():
                registry.transport.close()

        at_once(
            lambda remote: _fetch(store, remote, connected[remote.place], meter),
            wanted,
            jobs,
            break_off,
        )
    return wanted


def _connected(place: Place) -> Registry:
    return Registry(place.repository, plain_http=place.plain_http, actions="pull")


def _fetch(store: Store, remote: Remote, registry: Registry, meter: Meter) -> None:
    blob = remote.blob
    with store.making(remote.key):
        if store.has(blob.digest, blob.size):  # another process has just brought or made it
            meter.advance(blob.size)
            return
        try:
            with store.new_file() as (out, commit):
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


def _check_tar(path: Path, remote: Remote, check_stopped: Callable[[], None]) -> None:
    """Hold a layer's tar against what the cache's record says: images were made with that.

    Args:
        path: of the blob.
        remote: the layer, as the record tells of it.
        check_stopped: raises once the work is to be broken off; a large tar takes a minute.

    Raises:
        IntegrityError: it is another one.
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
            f"{remote.place}: the layer {blob.digest} does not hold the tar that its record there "
            f"tells of ({blob.diff_id}, {blob.unpacked} bytes): every image that was made with it "
            "is broken, and so is the record"
        )
