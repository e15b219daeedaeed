"""What the destination has already: found where an inventory saw it, or in other directories.

Nothing is believed: a file is hashed before it is used.
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
        directories: where to look for what is not where it was seen; unpacked images, OCI layouts,
            or anything else.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = directories
        self._lock = threading.Lock()
        self._by_size: dict[int, list[str]] | None = None
        self._hashes: dict[str, str | None] = {}

    def file(self, sha256: str, size: int, path: str) -> Path:
        """A file of that content.

        Args:
            sha256: hexadecimal.
            size: bytes.
            path: where it was seen; may be empty.

        Raises:
            IncompleteError: there is none.
        """
        found = self.look(sha256, size, path)
        if found is None:
            seen = (
                f"the file that the inventory saw at {path}" if path else f"a file sha256:{sha256}"
            )
            raise IncompleteError(
                f"{seen} is gone or has changed ({size} bytes)",
                remedy="name a directory that has it with --from DIR, or take a new inventory and "
                "make the bundle again",
            )
        return found

    def look(self, sha256: str, size: int, path: str) -> Path | None:
        """The same, None where there is none. A size of 0: not known, found by its name only."""
        if path and self._is(path, sha256):
            return Path(path)
        for directory in self._directories:
            # As an OCI layout names it, when the layout or its directory of blobs was named.
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
