"""Files that the destination has already: at their path in an inventory, or in other directories.

Nothing is trusted: a file is hashed before it is used.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Sequence

from images.unbundle.document import IncompleteError
from images.unbundle.sources import inventory


class Holdings:
    """Files by content.

    Args:
        directories: where to look for files that are not at their path; unpacked images, OCI
            layouts, or any others.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = directories
        self._lock = threading.Lock()
        self._by_size: dict[int, list[str]] | None = None
        self._hashes: dict[str, str | None] = {}

    def file(self, sha256: str, size: int, path: str) -> Path:
        """Return a file of some content.

        Args:
            sha256: hexadecimal.
            size: bytes.
            path: its path in an inventory; may be empty.

        Raises:
            IncompleteError: there is none.
        """
        found = self.find(sha256, size, path)
        if found is None:
            seen = f"{path}, listed in the inventory," if path else f"a file sha256:{sha256}"
            raise IncompleteError(
                f"{seen} is missing or has changed ({size} bytes)",
                remedy="name a directory that has it with --from DIR, or take a new inventory and "
                "make the bundle again",
            )
        return found

    def find(self, sha256: str, size: int, path: str) -> Path | None:
        """Return the same, or None. A size of 0 is unknown: the file is found by its name only."""
        if path and self._is(path, sha256):
            return Path(path)
        for directory in self._directories:
            # By an OCI layout's naming; the directory is the layout or its directory of blobs.
            for named in (directory / "blobs" / "sha256" / sha256, directory / sha256):
                if named.is_file() and self._is(str(named), sha256):
                    return named
        for candidate in self._of_size(size) if size else ():
            if self._is(candidate, sha256):
                return Path(candidate)
        return None

    def _of_size(self, size: int) -> list[str]:
        with self._lock:
            if self._by_size is None:
                self._by_size = {}
                for path, found in inventory.files(self._directories, min_size=1):
                    self._by_size.setdefault(found, []).append(path)
            return self._by_size.get(size, [])

    def _is(self, path: str, sha256: str) -> bool:
        if path not in self._hashes:
            self._hashes[path] = inventory.sha256(path)
        return self._hashes[path] == sha256
