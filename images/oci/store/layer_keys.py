"""What a store knows of layers: which blob some inputs gave, and which layers a registry gave.

The first are the layer keys, a file each in `.roll/layers`; the second
(`images.oci.store.remote_layers`) are noted in `.roll/remotes.json`.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from images.oci.descriptor import Blob
from images.oci.store import remote_layers
from images.oci.store.blobs import NOT_A_DOCUMENT, Blobs
from images.oci.store.files import disk
from images.oci.store.remote_layers import Remote
from images.util import limits, untrusted_files, untrusted_json


class Layers(Blobs):
    """A store as the layers that were made for it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._keys = path / ".roll" / "layers"
        self._records = path / ".roll" / "records"
        self._remotes = path / ".roll" / "remotes.json"
        self._locks = path / ".roll" / "locks"

    def known(self, key: str) -> Blob | None:
        """The blob that these inputs gave before, if it is still here."""
        try:
            blob = Blob(
                **untrusted_json.loads(untrusted_files.whole(self._keys / key, limits.DOCUMENT))
            )
            return blob if self.has(blob.digest, blob.size) else None
        except (OSError, *NOT_A_DOCUMENT):
            return None

    def remember(self, key: str, blob: Blob) -> None:
        """Note which blob a key gave."""
        with disk(self.path):
            self._replace(self._keys / key, json.dumps(asdict(blob), sort_keys=True).encode())

    def records(self, key: str) -> bytes | None:
        """The document that is kept about the distributions in the layer of that key, if any."""
        try:
            return (self._records / key).read_bytes()
        except OSError:
            return None

    def keep_records(self, key: str, content: bytes) -> None:
        """Keep what the distributions in a layer brought.

        Its reader sees whether it is whole, so nothing waits for the disk.
        """
        with disk(self.path), self._unfinished() as out:
            self._records.mkdir(exist_ok=True)
            out.write(content)
            out.flush()
            Path(out.name).replace(self._records / key)

    def _drop_records(self) -> None:
        """Remove what is kept of layers whose keys are gone."""
        if self._records.is_dir():
            for path in self._records.iterdir():
                if not (self._keys / path.name).exists():
                    path.unlink()

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Hold the right to make the layer `key`: a second build waits and then finds it."""
        with disk(self.path), untrusted_files.open_lock(self._locks / key) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # -- layers that lie elsewhere -----------------------------------------------------------------

    def remotes(self) -> dict[str, Remote]:
        """Layers that are known and lie in a registry, by digest; none whose blob is here."""
        found = {item.blob.digest: item for item in self._noted()}
        return {
            digest: item for digest, item in found.items() if not self.has(digest, item.blob.size)
        }

    def note_remotes(self, remotes: Iterable[Remote]) -> None:
        """Remember where layers lie whose blobs are not here, or came from."""
        new = {item.blob.digest: item for item in remotes}
        if new:
            with self._index_locked():
                noted = {item.blob.digest: item for item in self._noted()}
                self._keep_remotes({**noted, **new})

    def _noted(self) -> list[Remote]:
        try:
            found = remote_layers.parse(untrusted_files.whole(self._remotes, limits.LIST))
            for item in found:
                self.blob_path(item.blob.digest)
            return found
        except (OSError, *NOT_A_DOCUMENT):  # then their blobs are missing, says `verify`
            return []

    def _keep_remotes(self, remotes: dict[str, Remote]) -> None:
        if remotes or self._remotes.exists():
            self._replace(self._remotes, remote_layers.dump(remotes.values()))

    def _unpacked_sizes(self) -> dict[str, int]:
        """Bytes of the tars of known layers, by digest: no OCI document tells them."""
        known = (self.known(path.name) for path in self._keys.iterdir())
        sizes = {item.blob.digest: item.blob.unpacked for item in self._noted()}
        return sizes | {blob.digest: blob.unpacked for blob in known if blob}
