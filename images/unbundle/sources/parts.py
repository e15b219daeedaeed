"""The parts of a bundle that have arrived, and the stream that they are pieces of.

No byte of a part is used before the digest of the whole part has been checked.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Iterator, Sequence

from images.errors import IntegrityError
from images.unbundle.document import Bundle, Layer
from images.util import untrusted_files

_CHUNK = 1 << 20


class DamagedPartError(IntegrityError):
    """A part does not have its digest."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault, remedy=f"send {fault.partition(':')[0]} again")


class Parts:
    """The directory with the parts that have arrived."""

    def __init__(self, directory: Path, bundle: Bundle) -> None:
        self._directory, self._bundle = directory, bundle
        self._names = {part.sha256: part.name for part in reversed(bundle.parts)}
        self._locks = [threading.Lock() for _ in bundle.parts]
        self._checked: dict[int, str] = {}

    def spanned(self, layer: Layer) -> range:
        """Return the numbers of the parts that contain a layer."""
        if not layer.length:
            return range(0)
        size = self._bundle.part_size
        return range(layer.offset // size, (layer.offset + layer.length - 1) // size + 1)

    def lacking(self, layer: Layer) -> list[str]:
        """Return the names of a layer's missing parts; with its size, a part that is too short."""
        found = []
        for number in self.spanned(layer):
            part = self._bundle.parts[number]
            size = self._size(part.name)
            if size is None:
                found.append(part.name)
            elif size != part.size:
                found.append(f"{part.name} ({size} bytes instead of {part.size})")
        return found

    def read(self, layer: Layer) -> Iterator[bytes]:
        """Return the bytes of a layer, in pieces.

        Raises:
            DamagedPartError: a part is damaged.
            OSError: it cannot be read.
        """
        end = layer.offset + layer.length
        for number in self.spanned(layer):
            fault = self.fault(number)
            if fault:
                raise DamagedPartError(fault)
            begin = number * self._bundle.part_size
            at, stop = max(layer.offset - begin, 0), min(end - begin, self._bundle.part_size)
            with untrusted_files.open_regular(self._directory / self._name(number)) as stream:
                stream.seek(at)
                while at < stop:
                    piece = stream.read(min(_CHUNK, stop - at))
                    if not piece:
                        raise DamagedPartError(f"{self._name(number)}: changed while it was read")
                    at += len(piece)
                    yield piece

    def fault(self, number: int) -> str:
        """Return a line about what is wrong with a part; empty for an intact one."""
        with self._locks[number]:
            if number not in self._checked:
                self._checked[number] = self._check(number)
            return self._checked[number]

    def arrived(self, number: int) -> bool:
        """Return whether the file is there, whatever its size."""
        return self._size(self._name(number)) is not None

    def unknown_files(self) -> list[tuple[str, str]]:
        """Return the files that are named as parts and are not of this bundle, with remedies."""
        numbers = {part.name: number for number, part in enumerate(self._bundle.parts)}
        found = []
        for path in sorted(self._directory.iterdir()):
            if path.name.startswith("part-") and path.name not in numbers and path.is_file():
                of = self._names.get(_sha256(path))
                if of is None:
                    found.append((f"{path.name}: not of this bundle", f"remove {path.name}"))
                    continue
                remedy = f"remove {path.name}"
                if not self.arrived(numbers[of]):
                    remedy = f"rename it: mv '{path.name}' {of}"
                found.append((f"{path.name}: has the bytes of {of}", remedy))
        return found

    def remove_unneeded(self, todo: Sequence[Layer]) -> int:
        """Remove the parts that no layer of `todo` needs; return how many were removed."""
        needed = {number for layer in todo for number in self.spanned(layer)}
        gone = 0
        for number, part in enumerate(self._bundle.parts):
            if number not in needed and self.arrived(number):
                (self._directory / part.name).unlink()
                gone += 1
        return gone

    def _check(self, number: int) -> str:
        part = self._bundle.parts[number]
        size = self._size(part.name)
        if size != part.size:
            return f"{part.name}: {size or 0} bytes instead of {part.size}"
        found = _sha256(self._directory / part.name)
        if found == part.sha256:
            return ""
        of = self._names.get(found)
        if of:
            return f"{part.name}: has the bytes of {of}"
        return f"{part.name}: damaged: sha256 {found} instead of {part.sha256}"

    def _name(self, number: int) -> str:
        return self._bundle.parts[number].name

    def _size(self, name: str) -> int | None:
        try:
            return (self._directory / name).stat().st_size
        except FileNotFoundError:
            return None


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with untrusted_files.open_regular(path) as stream:
        while True:
            piece = stream.read(_CHUNK)
            if not piece:
                return found.hexdigest()
            found.update(piece)
