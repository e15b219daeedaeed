"""The sections of an ELF file, read from a stream.

Format: System V ABI, "Object Files" (ELF-64 object file format, version 1.5), little endian, as
x86-64 has it.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import NamedTuple

from images.formats.libraries import byte_ranges
from images.formats.libraries.byte_ranges import Range

_HEAD = struct.Struct("<4sBBB33xQ10xHHH")  # ..., offset, entry size, count, index of the names
_SECTION = struct.Struct("<II16xQQ")  # name, type, offset, size
_NO_BITS = 8


class Section(NamedTuple):
    """A section with bytes in the file."""

    name: str
    offset: int
    size: int


class DamagedError(Exception):
    """A file that begins like an ELF file and cannot be read as one."""


def read(size: int) -> Generator[Range, bytes, list[Section]]:
    """Return the sections; none if it is not a 64-bit ELF file, or has no table of sections.

    A reader for `byte_ranges`.

    Args:
        size: of the file.

    Raises:
        DamagedError: the table or a section is not inside the file.
    """
    if size < _HEAD.size:
        return []
    magic, bits, order, _, table, entry, count, names = _HEAD.unpack((yield 0, _HEAD.size))
    if magic != b"\x7fELF" or (bits, order) != (2, 1) or not (table and count):
        return []
    if entry < _SECTION.size or entry * count > byte_ranges.LARGEST:
        raise DamagedError("its table of sections has no usual form")
    rows = yield _inside(table, entry * count, size)
    found = [_SECTION.unpack_from(rows, number * entry) for number in range(count)]
    if names >= count:
        raise DamagedError("it has no names of sections")
    _, _, offset, length = found[names]
    if length > byte_ranges.LARGEST:
        raise DamagedError("its names of sections are too long")
    text = yield _inside(offset, length, size)
    return [
        Section(_name(text, name), *_inside(offset, length, size))
        for name, kind, offset, length in found
        if kind not in (0, _NO_BITS)
    ]


def _inside(offset: int, length: int, size: int) -> Range:
    if offset + length > size:
        raise DamagedError("it ends before its sections do")
    return offset, length


def _name(names: bytes, start: int) -> str:
    return names[start : names.find(b"\0", start)].decode("ascii", "replace")
