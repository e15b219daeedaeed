"""Stub libraries to link against: a shared library of names alone, and an empty archive.

The driver's library is mounted into a container by the machine that runs it. To link with `-lcuda`
elsewhere, or where it is mounted at another path, the linker needs a library of that name. Format:
System V ABI, chapters 4 and 7, and its AMD64 supplement.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

_BASE_ALIGN = 0x1000
# mov eax, 34; ret — CUDA_ERROR_STUB_LIBRARY, which NVIDIA's own stub returns.
_CODE = b"\xb8\x22\x00\x00\x00\xc3"

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")

_ET_REL, _ET_DYN, _EM_X86_64 = 1, 3, 62
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_SHT_PROGBITS, _SHT_STRTAB, _SHT_HASH, _SHT_DYNAMIC, _SHT_DYNSYM = 1, 3, 5, 6, 11
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 4, 5, 6, 10, 11, 14
_GLOBAL_FUNCTION = 1 << 4 | 2
_SEGMENTS = 3
_IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)  # 64 bits, little-endian, System V


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    flags: int  # 2: in memory, 4: code
    content: bytes
    link: int = 0
    info: int = 0
    entry_size: int = 0
    align: int = 8


def shared_library(soname: str, functions: Sequence[str]) -> bytes:
    """Return an x86-64 shared library that exports `functions`, each of which returns 34.

    Args:
        soname: the library that programs linked with it will load.
        functions: the exported names; their order does not matter.
    """
    names = sorted(set(functions))
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in (*names, soname))
    # Section numbers: 1 .hash, 2 .dynsym, 3 .dynstr, 4 .text, 5 .dynamic, 6 .shstrtab.
    # The addresses within .dynsym and .dynamic are known once the sizes before them are.
    count = len(names) + 1
    blank = [
        _Section(".hash", _SHT_HASH, 2, _hash_table(count), link=2, entry_size=4),
        _Section(".dynsym", _SHT_DYNSYM, 2, bytes(_SYMBOL.size * count), 3, 1, _SYMBOL.size),
        _Section(".dynstr", _SHT_STRTAB, 2, strings, align=1),
        _Section(".text", _SHT_PROGBITS, 6, _CODE, align=16),
        _Section(".dynamic", _SHT_DYNAMIC, 2, bytes(_DYNAMIC.size * 7), 3, 0, _DYNAMIC.size),
    ]
    at = dict(zip((section.name for section in blank), _offsets(blank), strict=True))
    tags = [
        (_DT_SONAME, len(strings) - len(soname) - 1),
        (_DT_HASH, at[".hash"]),
        (_DT_STRTAB, at[".dynstr"]),
        (_DT_SYMTAB, at[".dynsym"]),
        (_DT_STRSZ, len(strings)),
        (_DT_SYMENT, _SYMBOL.size),
        (0, 0),
    ]
    filled = {
        ".dynsym": _symbols(names, at[".text"]),
        ".dynamic": b"".join(_DYNAMIC.pack(*tag) for tag in tags),
    }
    return _file(
        [replace(section, content=filled.get(section.name, section.content)) for section in blank]
    )


def empty_archive() -> bytes:
    """Return a static library of one empty x86-64 object.

    An archive without any object is enough for ld, but nvlink takes it for another machine's.
    """
    names = b"\0.shstrtab\0"
    start = _HEADER.size + len(names) + -len(names) % 8
    header = _HEADER.pack(
        *(_IDENT, _ET_REL, _EM_X86_64, 1, 0, 0, start, 0, _HEADER.size, 0, 0, _SECTION.size, 2, 1)
    )
    table = bytes(_SECTION.size) + _SECTION.pack(
        1, _SHT_STRTAB, 0, 0, _HEADER.size, len(names), 0, 0, 1, 0
    )
    content = (header + names).ljust(start, b"\0") + table
    index = bytes(4)  # no symbols; without an index ld refuses the archive
    return b"!<arch>\n" + _member("/", index) + _member("empty.o/", content)


def _member(name: str, content: bytes) -> bytes:
    """Return a member of an ar archive without times and owners; `content` has an even length."""
    return f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(content):<10}`\n".encode() + content


def _hash_table(count: int) -> bytes:
    """Return a hash table of one bucket: slow to search, but no program does at run time."""
    chain = [0, *range(2, count), 0][:count]
    return struct.pack(f"<{3 + count}I", 1, count, 1 if count > 1 else 0, *chain)


def _symbols(names: Sequence[str], address: int) -> bytes:
    symbols = [bytes(_SYMBOL.size)]
    offset = 1
    for name in names:
        symbols.append(_SYMBOL.pack(offset, _GLOBAL_FUNCTION, 0, 4, address, len(_CODE)))
        offset += len(name) + 1
    return b"".join(symbols)


def _offsets(sections: Sequence[_Section]) -> list[int]:
    offset = _HEADER.size + _SEGMENTS * _SEGMENT.size
    offsets = []
    for section in sections:
        offset += -offset % section.align
        offsets.append(offset)
        offset += len(section.content)
    return offsets


def _file(sections: Sequence[_Section]) -> bytes:
    """Return the file: headers, sections and section table. Addresses equal file offsets."""
    names = b"\0" + b"".join(f"{section.name}\0".encode() for section in sections) + b".shstrtab\0"
    everything = [*sections, _Section(".shstrtab", _SHT_STRTAB, 0, names, align=1)]
    offsets = _offsets(everything)
    body = bytearray(_HEADER.size + _SEGMENTS * _SEGMENT.size)
    table = [bytes(_SECTION.size)]
    for section, offset in zip(everything, offsets, strict=True):
        body += bytes(offset - len(body)) + section.content
        name = names.index(f"\0{section.name}\0".encode()) + 1
        address = offset if section.flags else 0
        table.append(
            _SECTION.pack(
                name,
                section.kind,
                section.flags,
                address,
                offset,
                len(section.content),
                section.link,
                section.info,
                section.align,
                section.entry_size,
            )
        )
    loaded = offsets[-1]
    dynamic, dynamic_size = offsets[-2], len(sections[-1].content)
    body += bytes(-len(body) % 8)
    _HEADER.pack_into(
        body,
        0,
        *(_IDENT, _ET_DYN, _EM_X86_64, 1, 0, _HEADER.size, len(body), 0, _HEADER.size),
        *(_SEGMENT.size, _SEGMENTS, _SECTION.size, len(table), len(table) - 1),
    )
    for index, segment in enumerate(
        (
            (_PT_LOAD, 5, 0, 0, 0, loaded, loaded, _BASE_ALIGN),
            (_PT_DYNAMIC, 4, dynamic, dynamic, dynamic, dynamic_size, dynamic_size, 8),
            (_PT_GNU_STACK, 6, 0, 0, 0, 0, 0, 16),
        )
    ):
        _SEGMENT.pack_into(body, _HEADER.size + index * _SEGMENT.size, *segment)
    return bytes(body) + b"".join(table)
