"""The layer keys of a store: which blob was made from a set of inputs, by the inputs' digest.

A file for each key is in `.roll/layers`; what is recorded of the distributions in such a layer is
in `.roll/records`, under the same key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from images.oci.descriptor import Blob
from images.oci.store.blobs import NOT_A_DOCUMENT, Blobs
from images.oci.store.files import Files, disk
from images.util import limits, untrusted_files, untrusted_json


class LayerKeys:
    """A memo "key -> blob"; an entry whose blob is gone counts as none.

    Args:
        files: of the store.
        blobs: of the store.
    """

    def __init__(self, files: Files, blobs: Blobs) -> None:
        self._files = files
        self._blobs = blobs
        self._keys = files.private / "layers"
        self._records = files.private / "records"
        self._locks = files.private / "locks"

    def known(self, key: str) -> Blob | None:
        """Return the blob that was made from these inputs before, if the store still has it."""
        try:
            content = untrusted_files.whole(self._keys / key, limits.DOCUMENT)
            blob = Blob(**untrusted_json.loads(content))
            return blob if self._blobs.has(blob.digest, blob.size) else None
        except (OSError, *NOT_A_DOCUMENT):
            return None

    def all_known(self) -> Iterator[Blob]:
        """Yield the blobs of all keys."""
        return (blob for path in self._keys.iterdir() if (blob := self.known(path.name)))

    def remember(self, key: str, blob: Blob) -> None:
        """Record which blob was made for a key."""
        with disk(self._files.path):
            content = json.dumps(asdict(blob), sort_keys=True).encode()
            self._files.replace(self._keys / key, content)

    def records(self, key: str) -> bytes | None:
        """Return the document about the distributions in the layer of that key, if any."""
        return self._files.read(f"{self._records.name}/{key}")

    def keep_records(self, key: str, content: bytes) -> None:
        """Keep a document about the distributions in a layer.

        Its reader sees whether it is whole, so nothing waits for the disk.
        """
        with disk(self._files.path), self._files.unfinished() as out:
            self._records.mkdir(exist_ok=True)
            out.write(content)
            out.flush()
            Path(out.name).replace(self._records / key)

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Hold the right to make the layer of a key: a second build waits and then finds it."""
        with self._files.locked(f"{self._locks.name}/{key}"):
            yield

    def remove_locks(self) -> None:
        """Remove the locks of all keys; no build may be at work."""
        for path in self._locks.iterdir():
            path.unlink()

    def remove_lost(self) -> int:
        """Remove keys whose blobs are gone, and their records; returns how many keys."""
        keys = [path for path in self._keys.iterdir() if self.known(path.name) is None]
        for path in keys:
            path.unlink()
        if self._records.is_dir():
            for path in self._records.iterdir():
                if not (self._keys / path.name).exists():
                    path.unlink()
        return len(keys)
