"""The headers of an ELF file: the file's own, its segments and its sections.

Format: System V ABI, "Object Files", for 64 bits and little endian, as x86-64 has it. Only the form
that linkers give to shared libraries is read; of any other file nothing is known here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple, TypeVar

Reading = Generator[tuple[int, int], bytes, "Headers | None"]
"""Yields offsets and lengths of ranges of the file, in any order; is sent their bytes."""

LOAD, DYNAMIC, INTERPRETER, PHDR = 1, 2, 3, 6
"""Types of segments."""

EXECUTABLE, WRITABLE = 1, 2
"""Flags of segments: of code, and of what is written to."""

PROGBITS, NOBITS = 1, 8
"""Types of sections: with bytes in the file, and without."""

ALLOC, CODE = 2, 4
"""Flags of sections: of those in memory, and of machine code."""

PAGE = 4096
"""Bytes of a page of x86-64."""

_FILE = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_IDENT = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
_SHARED, _X86_64 = 3, 62
_LARGEST = 1 << 16  # bytes of a table or of the names: libraries have less
_Result = TypeVar("_Result")


class FileHeader(NamedTuple):
    """The file's header; names as in the ABI, without `e_`."""

    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int

    def packed(self) -> bytes:
        """Return its bytes."""
        return _FILE.pack(*self)


class Segment(NamedTuple):
    """A program header; names as in the ABI, without `p_`."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int

    @property
    def end(self) -> int:
        """The offset behind its bytes in the file."""
        return self.offset + self.filesz


class Section(NamedTuple):
    """A section header; names as in the ABI, without `sh_`."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    addralign: int
    entsize: int

    @property
    def end(self) -> int:
        """The offset behind its bytes in the file."""
        return self.offset + (0 if self.type in (0, NOBITS) else self.size)


class Headers(NamedTuple):
    """All headers of a shared library.

    Attributes:
        size: of the file.
        names: of the sections, in their order.
    """

    size: int
    file: FileHeader
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    names: tuple[str, ...]


def read(size: int) -> Reading:
    """Return the headers; None if it is no shared library for x86-64, or not of the usual form."""
    if size < _FILE.size:
        return None
    file = FileHeader(*_FILE.unpack((yield 0, _FILE.size)))
    segments, sections = file.phnum * _SEGMENT.size, file.shnum * _SECTION.size
    if (
        not file.ident.startswith(_IDENT)
        or (file.type, file.machine, file.version) != (_SHARED, _X86_64, 1)
        or (file.ehsize, file.phentsize) != (_FILE.size, _SEGMENT.size)
        or (file.shentsize, file.shstrndx < file.shnum) != (_SECTION.size, True)
        or not (0 < segments <= _LARGEST and file.phoff + segments <= size)
        or not (0 < sections <= _LARGEST and file.shoff + sections <= size)
    ):
        return None
    found = _rows(_SEGMENT, (yield file.phoff, segments))
    rows = [Section(*row) for row in _rows(_SECTION, (yield file.shoff, sections))]
    table = rows[file.shstrndx]
    if not 0 < table.end - table.offset <= _LARGEST or any(row.end > size for row in rows):
        return None
    text = yield table.offset, table.size
    return Headers(
        size,
        file,
        tuple(Segment(*row) for row in found),
        tuple(rows),
        tuple(_name(text, row.name) for row in rows),
    )


def answered(
    reading: Generator[tuple[int, int], bytes, _Result], read: Callable[[int, int], bytes]
) -> _Result:
    """Return the result of a reading.

    Args:
        reading: asks for ranges.
        read: returns the bytes at an offset and of a length.
    """
    try:
        wanted = next(reading)
        while True:
            wanted = reading.send(read(*wanted))
    except StopIteration as end:
        result: _Result = end.value
        return result


def packed_segments(segments: Iterable[Segment]) -> bytes:
    """Return a table of program headers."""
    return b"".join(_SEGMENT.pack(*segment) for segment in segments)


def packed_sections(sections: Iterable[Section]) -> bytes:
    """Return a table of section headers."""
    return b"".join(_SECTION.pack(*section) for section in sections)


def _rows(form: struct.Struct, table: bytes) -> list[tuple[int, ...]]:
    return list(form.iter_unpack(table))


def _name(names: bytes, start: int) -> str:
    return names[start : names.find(b"\0", start)].decode("ascii", "replace")
